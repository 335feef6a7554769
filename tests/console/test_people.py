from __future__ import annotations

import threading

import pytest
from django.contrib.auth import SESSION_KEY
from django.db import connection
from django.test import Client

from console import people, problems, tokens
from console.actors import system
from console.models import AuditEntry, RoleGrant, User
from console.roles import Role
from tests.builders import PASSWORD, a_user
from tests.console.test_tokens import a_token

pytestmark = pytest.mark.django_db
WHY = "She has left."


@pytest.fixture
def ada():
    return a_user(Role.ADMIN, name="Ada Okafor")


def last_entry() -> AuditEntry:
    return AuditEntry.objects.latest("id")


def signed_in(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def is_in(client: Client) -> bool:
    return client.get("/settings/").status_code == 200


def test_a_role_that_is_taken_away_is_gone_at_once_and_audited(ada):
    mara = a_user(Role.OPERATOR)
    _, text = a_token(mara, scopes=["runs.read"])

    people.take_away(mara.grants.get().pk, by=ada.actor(), reason=WHY)

    assert not User.objects.get(pk=mara.pk).actor().rights
    assert not tokens.authenticate(text).actor().rights
    assert (last_entry().action, last_entry().actor_label, last_entry().reason) == ("role.revoke", "Ada Okafor", WHY)
    assert last_entry().changes == {"role": ["operator", None], "agent": ["", None]}
    assert last_entry().object_id == str(mara.pk)


def test_whoever_is_deactivated_is_out_and_stays_out_when_let_in_again(ada):
    mara = a_user(Role.OPERATOR)
    session, (_, text) = signed_in(mara), a_token(mara, scopes=["runs.read"])
    assert is_in(session)

    people.deactivate(mara.pk, by=ada.actor(), reason=WHY)

    assert not is_in(session)
    assert tokens.authenticate(text) is None
    assert last_entry().changes == {"active": [True, False], "live_tokens": [1, 0]}
    assert not Client().login(email=mara.email, password=PASSWORD)

    _, password = people.reactivate(mara.pk, by=ada.actor(), reason="She is back.")

    assert not is_in(session)
    assert tokens.authenticate(text) is None
    assert not Client().login(email=mara.email, password=PASSWORD)
    assert Client().login(email=mara.email, password=password)
    assert [grant.role for grant in mara.grants.all()] == [Role.OPERATOR]
    assert password not in str(AuditEntry.objects.values())


def test_a_new_password_ends_the_old_one_and_its_sessions(ada):
    mara = a_user(Role.OPERATOR)
    session = signed_in(mara)

    _, password = people.new_password(mara.pk, by=ada.actor(), reason="forgotten")

    assert not is_in(session)
    assert SESSION_KEY not in session.session
    assert not Client().login(email=mara.email, password=PASSWORD)
    assert Client().login(email=mara.email, password=password)
    assert last_entry().action == "user.new_password"


CHANGES = [
    lambda user, **told: people.take_away(user.grants.get().pk, **told),
    lambda user, **told: people.deactivate(user.pk, **told),
    lambda user, **told: people.new_password(user.pk, **told),
]


@pytest.mark.parametrize("change", CHANGES)
def test_nobody_changes_their_own_account_or_without_a_reason(change, ada):
    a_user(Role.ADMIN)

    with pytest.raises(problems.Forbidden, match="Another admin"):
        change(ada, by=ada.actor(), reason=WHY)
    with pytest.raises(problems.Invalid, match="Say why"):
        change(a_user(Role.SUPPORT), by=ada.actor(), reason="  ")

    assert not AuditEntry.objects.exists()


@pytest.mark.parametrize("change", [*CHANGES, lambda user, **told: people.grant(user, Role.ADMIN, **told)])
def test_only_an_admin_of_every_agent_in_person_may(change, ada):
    token, _ = tokens.create(**{**a_token_of(ada), "scopes": ["people.manage"]})
    others = [a_user(Role.ADMIN, agent="support-refunds"), *(a_user(role) for role in set(Role) - {Role.ADMIN})]

    for actor in (token.actor(), *(other.actor() for other in others)):
        with pytest.raises(problems.Forbidden, match="admin of every agent"):
            change(a_user(Role.SUPPORT), by=actor, reason=WHY)


def a_token_of(user: User) -> dict[str, object]:
    from datetime import timedelta

    return {"by": user.actor(), "name": "n", "expires_in": timedelta(days=1)}


def test_the_last_admin_stays(ada):
    shell = system("command line")
    for change in CHANGES[:2]:
        with pytest.raises(problems.Conflict, match="last admin"):
            change(ada, by=shell, reason=WHY)
    a_user(Role.ADMIN, is_active=False)
    a_user(Role.ADMIN, agent="support-refunds")
    with pytest.raises(problems.Conflict, match="last admin"):
        people.deactivate(ada.pk, by=shell, reason=WHY)

    people.deactivate(a_user(Role.OPERATOR).pk, by=shell, reason=WHY)
    a_user(Role.ADMIN)
    people.deactivate(ada.pk, by=shell, reason=WHY)


@pytest.mark.django_db(transaction=True)
def test_two_admins_who_remove_each_other_leave_one(ada):
    admins = [ada, a_user(Role.ADMIN)]
    gate, refused = threading.Barrier(2), []

    def remove(by: User, other: User) -> None:
        actor = by.actor()
        gate.wait()
        try:
            people.deactivate(other.pk, by=actor, reason=WHY)
        except problems.Conflict as late:
            refused.append(late)
        finally:
            connection.close()

    threads = [threading.Thread(target=remove, args=pair) for pair in (admins, admins[::-1])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert len(refused) == 1
    assert User.objects.filter(is_active=True).count() == 1


def test_doing_it_twice_changes_nothing_or_says_so(ada):
    mara = a_user(Role.OPERATOR)
    people.deactivate(mara.pk, by=ada.actor(), reason=WHY)
    count = AuditEntry.objects.count()

    people.deactivate(mara.pk, by=ada.actor(), reason=WHY)
    with pytest.raises(problems.Conflict, match="not active"):
        people.new_password(mara.pk, by=ada.actor(), reason=WHY)
    with pytest.raises(problems.Conflict, match="active already"):
        people.reactivate(ada.pk, by=a_user(Role.ADMIN).actor(), reason=WHY)
    with pytest.raises(RoleGrant.DoesNotExist):
        people.take_away(mara.pk, by=ada.actor(), reason=WHY)

    assert AuditEntry.objects.count() == count
