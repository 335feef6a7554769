"""How people get in and out: an admin invites them, nobody signs up."""

from __future__ import annotations

import logging
from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from django.http import HttpRequest

from console.consumers import person_group
from console.models import User

log = logging.getLogger(__name__)


class AccountAdapter(DefaultAccountAdapter):  # type: ignore[misc]  # allauth ships no types
    def is_open_for_signup(self, request: HttpRequest) -> bool:
        return False


def access_changed(user: User) -> None:
    """Tell the person's open pages to check at once what they may still hear. Losing it costs a few seconds."""
    try:
        async_to_sync(get_channel_layer().group_send)(person_group(str(user.pk)), {"type": "access.changed"})
    except Exception as lost:
        log.warning("The sockets of %s were not told: %s. They check by themselves.", user.pk, lost)


def close_sockets(sender: Any, user: User | None, **kwargs: Any) -> None:
    """Receives Django's own notice that somebody signed out."""
    if user is not None:
        access_changed(user)
