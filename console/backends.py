"""Who a signed-in person is: the account and its roles, in one query, because every page asks for both."""

from __future__ import annotations

from typing import Any

from allauth.account.auth_backends import AuthenticationBackend
from django.contrib.auth.base_user import AbstractBaseUser

from console.models import RoleGrant


class AccountBackend(AuthenticationBackend):  # type: ignore[misc]  # allauth leaves it untyped
    """allauth's, which looks for the account alone."""

    def get_user(self, user_id: Any) -> AbstractBaseUser | None:
        grants = RoleGrant.objects.select_related("user").filter(user_id=user_id)
        first = next(iter(grants), None)
        if first is None:
            without: AbstractBaseUser | None = super().get_user(user_id)
            return without
        if not self.user_can_authenticate(first.user):
            return None
        first.user.loaded_grants = tuple(grants)
        return first.user
