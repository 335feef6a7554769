"""Entry points for programs: what a release changes of its tools' labels, and the review of it."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from ninja import Router, Schema
from pydantic import Field

from console import envelope
from console.access import Request
from console.bearer import Token
from releases import labels
from releases.models import LabelReview, Release
from releases.policies.labelling import Direction
from releases.states import LabelVerdict

router = Router(tags=["Agents and releases"])


class DifferenceOut(Schema):
    field: str
    direction: Direction
    before: Any
    after: Any


class ChangeOut(Schema):
    tool: str
    source: str = Field(description="Whose labels it is set against: the active release, the installed code, nobody's")
    direction: Direction = Field(description="looser and unclear need a second person, stricter does not")
    differences: list[DifferenceOut]


class ReviewOut(Schema):
    verdict: LabelVerdict
    digest: str
    reason: str
    by: str
    at: datetime


class LabelsOut(Schema):
    changes: list[ChangeOut] = Field(description="Against the labels that are accepted now")
    digest: str = Field(description="Of the changes that need a review; empty when none does")
    unlabelled: list[str] = Field(description="Tools with `labelled` false: no review lets them answer")
    is_accepted: bool
    review: ReviewOut | None = Field(description="The word that counts on exactly these changes")
    why_not: str = Field(description="Why the labels keep the release from becoming active; empty when they do not")


class ReviewIn(envelope.Body):
    verdict: LabelVerdict
    digest: str = Field(max_length=64, description="digest of the label changes as they were read")
    reason: str = Field(min_length=1, max_length=labels.LONGEST_REASON)


@router.get("/releases/{release_id}/labels", auth=Token("releases.read"), response=LabelsOut)
def get_label_changes(request: Request, release_id: envelope.ReleaseId) -> Any:
    """What a release changes of its tools' labels, and whether a second person has reviewed it."""
    release = _release(request, release_id, "releases.read")
    found = labels.standing(release)
    return {
        "changes": found.changes,
        "digest": found.digest,
        "unlabelled": found.unlabelled,
        "is_accepted": found.is_accepted,
        "review": _review(found.review) if found.review else None,
        "why_not": labels.why_not(release),
    }


@router.post("/releases/{release_id}/labels/review", auth=Token("labels.review"), response=ReviewOut)
def review_labels(request: Request, release_id: envelope.ReleaseId, body: ReviewIn) -> Any:
    """Accept or reject the label changes of a release. Neither its author nor a token of theirs may."""
    release = _release(request, release_id, "labels.review")
    done = labels.review(release.pk, body.verdict, digest=body.digest, by=request.actor, reason=body.reason)
    return _review(done)


def _release(request: Request, release_id: UUID, permission: str) -> Release:
    allowed = request.actor.agents(permission)
    visible = Release.objects.all() if allowed is None else Release.objects.filter(agent__slug__in=allowed)
    return visible.select_related("agent__active_release").get(pk=release_id)


def _review(done: LabelReview) -> dict[str, Any]:
    return {
        "verdict": done.verdict, "digest": done.digest, "reason": done.reason, "by": done.by_label, "at": done.at,
    }  # fmt: skip
