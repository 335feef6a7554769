"""A program with a token, as tests speak to the API."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.http import HttpResponse
from django.test import Client

from console import roles, tokens
from console.actors import EVERY_SCOPE
from console.models import ApiToken, User
from console.principals import EVERY_END_USER, Grant
from console.roles import Role
from tests.builders import a_user

API = "/api/v1"


class Program:
    """Calls the API with a token of its own. Without scopes it has every scope its owner's role carries."""

    def __init__(
        self,
        *scopes: str,
        role: Role | str = Role.OPERATOR,
        agent: str = "",
        owner: User | None = None,
        tool_scopes: tuple[str, ...] = (EVERY_SCOPE,),
        acts_for: Grant = EVERY_END_USER,
    ) -> None:
        self.owner = owner or a_user(role, agent=agent)
        self.token, self.secret = tokens.create(
            by=self.owner.actor(),
            name="billing robot",
            scopes=scopes or sorted(roles.permissions_of(str(role))),
            expires_in=timedelta(days=1),
            tool_scopes=tool_scopes,
            acts_for=acts_for,
        )
        self.client = Client(raise_request_exception=False)
        self.headers = {"Authorization": f"Bearer {self.secret}"}

    def get(self, path: str, query: dict[str, Any] | None = None, **headers: str) -> HttpResponse:
        return self.client.get(API + path, query, headers={**self.headers, **headers})

    def post(self, path: str, body: Any = None, **headers: str) -> HttpResponse:
        return self.client.post(API + path, body, content_type="application/json", headers={**self.headers, **headers})

    def set(self, **fields: Any) -> None:
        ApiToken.objects.filter(pk=self.token.pk).update(**fields)
