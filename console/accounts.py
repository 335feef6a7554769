"""How people get in and out: an admin invites them, nobody signs up; guessing passwords is slowed down."""

from __future__ import annotations

import hashlib
import secrets
from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from allauth.core.internal import ratelimit
from django.conf import settings
from django.core import signing
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.utils.crypto import salted_hmac

from console import live, problems, ratelimits
from console.models import User

DEVICE = "known_device"
DEVICE_AGE_S = 180 * 86400
# Failed sign-ins: (how many, in how many seconds).
OF_SOURCE = (10, 60)
OF_SOURCE_AND_ACCOUNT = (5, 300)
OF_ACCOUNT = (20, 300)
OF_DEVICE = (10, 300)


class AccountAdapter(DefaultAccountAdapter):  # type: ignore[misc]  # allauth ships no types
    """Failed sign-ins are counted per source, per account, and per both.

    A browser in which this account has signed in before carries a cookie that says so, and has a count of its own:
    whoever guesses from elsewhere uses up the account's count and still cannot lock its owner out.
    """

    error_messages = DefaultAccountAdapter.error_messages | {
        "email_password_mismatch": "This address and this password do not belong together. Check both. "
        "If you have forgotten the password, an admin can set a new one.",
        "too_many_login_attempts": "Too many failed login attempts. Wait five minutes, then try again.",
    }

    def is_open_for_signup(self, request: HttpRequest) -> bool:
        return False

    def authenticate(self, request: HttpRequest, **credentials: Any) -> Any:
        user = super().authenticate(request, **credentials)
        if user:
            for key, _, window_s in self._spent:
                ratelimits.give_back(key, window_s=window_s)
        return user

    def pre_authenticate(self, request: HttpRequest, **credentials: Any) -> None:
        login = str(credentials.get("email") or "").strip().lower()
        self._spent: list[tuple[str, int, int]] = []
        for key, limit, window_s in _counts(request, login):
            try:
                ratelimits.spend(key, limit=limit, window_s=window_s)
            except problems.TooMany as wrong:
                raise self.validation_error("too_many_login_attempts") from wrong
            self._spent.append((key, limit, window_s))

    def post_login(self, request: HttpRequest, user: User, **options: Any) -> HttpResponse:
        response: HttpResponse = super().post_login(request, user, **options)
        response.set_cookie(
            DEVICE,
            signing.dumps([_account(user.email.lower()), secrets.token_hex(8)], salt=DEVICE),
            max_age=DEVICE_AGE_S,
            httponly=True,
            samesite="Lax",
            secure=settings.SESSION_COOKIE_SECURE,
        )
        return response


def _counts(request: HttpRequest, login: str) -> list[tuple[str, int, int]]:
    """The counts that a failure of this attempt would use up."""
    account = _account(login)
    try:
        known, device = signing.loads(request.COOKIES.get(DEVICE, ""), salt=DEVICE, max_age=DEVICE_AGE_S)
    except (signing.BadSignature, ValueError, TypeError):
        known, device = "", ""
    if known == account:
        return [(f"signin:device:{device}", *OF_DEVICE)]
    source = hashlib.sha256(_source(request).encode()).hexdigest()[:24]
    return [
        (f"signin:source:{source}", *OF_SOURCE),
        (f"signin:pair:{source}:{account}", *OF_SOURCE_AND_ACCOUNT),
        (f"signin:account:{account}", *OF_ACCOUNT),
    ]


def _account(login: str) -> str:
    """Names the account in keys and cookies without telling its address."""
    return salted_hmac(DEVICE, login).hexdigest()[:24]


def _source(request: HttpRequest) -> str:
    try:
        return str(ratelimit.get_ip(request))
    except PermissionDenied:  # a socket without an address: all of them are one source
        return "unknown"


def close_sockets(sender: Any, user: User | None, **kwargs: Any) -> None:
    """Receives Django's own notice that somebody signed out."""
    if user is not None:
        live.access_changed(str(user.pk))
