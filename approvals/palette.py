"""What the command palette finds of approvals: open questions by their sentence."""

from __future__ import annotations

from collections.abc import Iterator

from approvals.models import ApprovalRequest
from console.actors import Actor
from console.shell import Found

MOST = 5


def find(actor: Actor, text: str) -> Iterator[Found]:
    mine = ApprovalRequest.objects.open().on_agents(actor.agents("approvals.read"))
    for request in mine.filter(title__icontains=text.strip()).order_by("due_at", "id")[:MOST]:
        yield Found(request.title, "Approval", request.get_absolute_url(), "inbox")
