"""Into the console without its sign-in form: the form itself is tried in `test_gallery`."""

from __future__ import annotations

from importlib import import_module

from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from playwright.sync_api import Page

from console.embedded import ports
from console.models import User


def enter(page: Page, user: User) -> None:
    """Give the page's browser profile a session of this person."""
    session = import_module(settings.SESSION_ENGINE).SessionStore()
    session[SESSION_KEY] = str(user.pk)
    session[BACKEND_SESSION_KEY] = settings.AUTHENTICATION_BACKENDS[0]
    session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    session.save()
    name, key = settings.SESSION_COOKIE_NAME, str(session.session_key)
    page.context.add_cookies([{"name": name, "value": key, "domain": ports.LOOPBACK, "path": "/"}])
