from __future__ import annotations

from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from console.models import AuditEntry, RoleGrant, User

pytestmark = pytest.mark.django_db


def create(**options: Any) -> tuple[str, str]:
    out, err = StringIO(), StringIO()
    given = {"email": "root@example.test", "name": "Root", "role": "admin", **options}
    call_command("person_create", **given, stdout=out, stderr=err)
    return out.getvalue(), err.getvalue()


def test_the_first_person_of_an_installation_can_sign_in_and_do_everything(client):
    password = create()[0].strip()

    user = User.objects.get()
    assert user.check_password(password)
    assert user.is_superuser
    signed_in = client.post("/accounts/login/", {"login": user.email, "password": password})
    assert signed_in.status_code == 302
    assert [entry.action for entry in AuditEntry.objects.order_by("id")] == ["user.create", "role.grant"]


def test_somebody_known_gets_one_more_role_and_keeps_the_password():
    password = create(role="support", agent="ships")[0].strip()

    assert create(email="ROOT@example.test", role="operator") == (
        "",
        "root@example.test is now operator on every agent.\n",
    )
    assert "already operator" in create(role="operator")[1]

    assert User.objects.get().check_password(password)
    assert set(RoleGrant.objects.values_list("role", "agent")) == {("support", "ships"), ("operator", "")}


@pytest.mark.parametrize("options", [{"email": "nobody"}, {"name": " "}, {"name": "x" * 121}, {"agent": "no slug"}])
def test_what_cannot_be_used_is_told_and_leaves_nobody(options):
    with pytest.raises(CommandError):
        create(**options)

    assert not User.objects.exists()
    assert not AuditEntry.objects.exists()


def test_djangos_own_command_makes_an_admin():
    call_command("createsuperuser", email="root@example.test", name="Root", interactive=False)

    person = User.objects.get(email="root@example.test")
    assert person.is_superuser
    assert person.actor().may("switches.lift", agent="any")
