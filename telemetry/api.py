"""Entry points for programs: say what you think of a run."""

from __future__ import annotations

from typing import Any, Literal

from ninja import Router, Schema
from pydantic import AwareDatetime, Field

from console import envelope, ids
from console.access import Request
from console.bearer import Token
from telemetry import feedback, tool_api

router = Router(tags=["Feedback"])
router.add_router("", tool_api.router)


class FeedbackIn(envelope.Body):
    score: Literal[1, -1] = Field(description="1: helpful, -1: not helpful")
    comment: str = Field("", max_length=feedback.LONGEST_COMMENT)


class FeedbackOut(Schema):
    run_id: str
    score: int
    comment: str
    by: str
    changed_at: AwareDatetime


@router.post("/runs/{run_id}/feedback", auth=Token("feedback.give"), response=FeedbackOut)
def give_feedback(request: Request, run_id: envelope.RunId, body: FeedbackIn) -> Any:
    """Say whether a run was helpful. A token has one word per run; sending it again replaces it."""
    given = feedback.give(run_id, body.score, body.comment, by=request.actor)
    return {
        "run_id": ids.public("run", given.run_id),
        "score": given.score,
        "comment": given.comment,
        "by": given.by_label,
        "changed_at": given.changed_at,
    }
