from __future__ import annotations

from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from console import tokens
from console.models import AuditEntry
from console.roles import Role
from tests.builders import a_user

pytestmark = pytest.mark.django_db


def test_the_token_is_the_only_line_and_works():
    owner, out = a_user(Role.OPERATOR), StringIO()

    call_command("token_create", email=owner.email.upper(), scope=["runs.read"], stdout=out, stderr=StringIO())

    token = tokens.authenticate(out.getvalue().strip())
    assert token is not None
    assert (token.owner, token.scopes) == (owner, ["runs.read"])
    assert AuditEntry.objects.get(action="token.create").actor_id == str(owner.pk)


def test_without_scopes_it_may_what_its_owner_may():
    owner, out = a_user(Role.AUDITOR), StringIO()

    call_command("token_create", email=owner.email, stdout=out, stderr=StringIO())

    token = tokens.authenticate(out.getvalue().strip())
    assert token is not None
    assert set(token.scopes) == {permission for permission, _ in owner.actor().rights}


@pytest.mark.parametrize("options", [{"email": "nobody@example.test"}, {"scope": ["runs.create"]}, {"days": 0}])
def test_what_cannot_be_made_is_told(options):
    owner = a_user(Role.AUDITOR)

    with pytest.raises(CommandError):
        call_command("token_create", **{"email": owner.email, **options}, stdout=StringIO(), stderr=StringIO())
