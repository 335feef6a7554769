from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from console import ids, tokens
from console.actors import system
from console.models import ApiToken, AuditEntry
from console.problems import Forbidden, Invalid
from console.roles import Role
from tests.builders import a_user

MONTH = timedelta(days=30)
pytestmark = pytest.mark.django_db


@pytest.fixture
def ada():
    return a_user(Role.ADMIN)


def a_token(user, **changes):
    return tokens.create(
        **{"by": user.actor(), "name": "export", "scopes": ["audit.read"], "expires_in": MONTH, **changes}
    )


def test_the_secret_is_shown_once_and_only_its_hash_is_kept(ada):
    token, text = a_token(ada)

    assert text.startswith(f"sth_{token.prefix}_")
    kept = str(ApiToken.objects.filter(pk=token.pk).values().get())
    assert text.rpartition("_")[2] not in kept
    assert len(token.digest) == 64
    assert text not in str(AuditEntry.objects.values())


def test_a_token_acts_with_its_scopes_only(ada):
    _, text = a_token(ada)

    actor = tokens.authenticate(text).actor()

    assert actor.kind == "token"
    assert actor.may("audit.read")
    assert not actor.may("audit.verify")


def test_a_token_loses_what_its_owner_loses(ada):
    _, text = a_token(ada)
    ada.grants.all().delete()

    assert not tokens.authenticate(text).actor().may("audit.read")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text[:-1] + ("a" if text[-1] != "a" else "b"),
        lambda text: text.replace("sth_", "xyz_"),
        lambda text: text + "a",
        lambda text: text.rpartition("_")[0],
        lambda text: "",
        lambda text: "sth_" + "a" * 8 + "_" + "b" * 43,
        lambda text: f" {text}",
        lambda text: text + "\0",
    ],
)
def test_any_other_text_is_nobody(ada, spoil):
    _, text = a_token(ada)

    assert tokens.authenticate(spoil(text)) is None


def test_a_token_ends_when_it_expires(ada):
    token, text = a_token(ada)
    ApiToken.objects.filter(pk=token.pk).update(expires_at=timezone.now())

    assert tokens.authenticate(text) is None


def test_a_token_ends_with_its_owner(ada):
    _, text = a_token(ada)
    ada.is_active = False
    ada.save()

    assert tokens.authenticate(text) is None


def test_revoking_ends_a_token_and_twice_is_harmless(ada):
    token, text = a_token(ada)

    tokens.revoke(token.pk, by=ada.actor(), reason="lost laptop")
    tokens.revoke(token.pk, by=ada.actor(), reason="again")

    assert tokens.authenticate(text) is None
    entries = AuditEntry.objects.filter(action="token.revoke", object_id=ids.public("tok", token.pk))
    assert [entry.reason for entry in entries] == ["lost laptop"]


def test_nobody_revokes_the_token_of_somebody_else(ada):
    token, text = a_token(ada)

    with pytest.raises(ApiToken.DoesNotExist):
        tokens.revoke(token.pk, by=a_user(Role.OPERATOR).actor(), reason="mine now")

    assert tokens.authenticate(text) is not None


def test_use_is_noted_at_most_once_a_minute(ada):
    token, text = a_token(ada)

    tokens.authenticate(text)
    first = ApiToken.objects.get(pk=token.pk).last_used_at
    tokens.authenticate(text)
    assert ApiToken.objects.get(pk=token.pk).last_used_at == first

    ApiToken.objects.filter(pk=token.pk).update(last_used_at=first - timedelta(minutes=1))
    tokens.authenticate(text)
    assert ApiToken.objects.get(pk=token.pk).last_used_at > first


def test_a_token_cannot_make_another(ada):
    _, text = a_token(ada)
    program = tokens.authenticate(text).actor()

    with pytest.raises(Forbidden, match="cannot make another"):
        tokens.create(by=program, name="child", scopes=["audit.read"], expires_in=MONTH)
    with pytest.raises(Forbidden):
        tokens.create(by=system("test"), name="child", scopes=["audit.read"], expires_in=MONTH)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"name": "  "}, "name"),
        ({"scopes": []}, "scopes"),
        ({"scopes": ["no.such"]}, "scopes"),
        ({"scopes": ["audit.verify"]}, "scopes"),  # declared, but an operator does not hold it
        ({"expires_in": timedelta(days=400)}, "expires_in"),
        ({"expires_in": timedelta()}, "expires_in"),
    ],
)
def test_a_token_that_breaks_a_rule_is_not_made(changes, field):
    operator = a_user(Role.OPERATOR)

    with pytest.raises(Invalid) as refused:
        a_token(operator, **changes)

    assert set(refused.value.extra["errors"]) == {field}
    assert not ApiToken.objects.exists()
    assert not AuditEntry.objects.exists()
