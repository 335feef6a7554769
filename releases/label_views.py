"""Label changes as the page of a release shows them, and the entry point for the second person who reviews them."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from django.contrib import messages
from django.http import HttpResponseBase
from django.shortcuts import redirect
from django.views.decorators.http import require_POST

from console import problems
from console.access import Request, requires
from console.actors import Actor
from releases import controls, labels
from releases.labels import Standing
from releases.models import LabelReview, Release
from releases.policies import label_words
from releases.policies.label_words import ChangedLabel
from releases.policies.labelling import Change
from releases.states import LabelVerdict

MOST_REVIEWS = 20


@dataclass(frozen=True)
class Card:
    """What a page says about the label changes of a release. `may_not` says why this person cannot review them."""

    standing: Standing
    lines: list[tuple[Change, tuple[str, str, str, str], list[ChangedLabel]]]
    reviews: list[LabelReview]
    may_not: str

    @property
    def is_shown(self) -> bool:
        return bool(self.lines or self.reviews)


def card(release: Release, by: Actor) -> Card:
    """Needs `release.agent.active_release`."""
    standing = labels.standing(release)
    lines = [
        (change, label_words.DIRECTIONS[change.direction], label_words.changed(change)) for change in standing.changes
    ]
    reviews = list(release.label_reviews.all()[:MOST_REVIEWS])
    return Card(standing, lines, reviews, labels.right(release, by=by) if standing.is_open else "")


@require_POST
@requires("labels.review")
def label_review(request: Request, release_id: UUID) -> HttpResponseBase:
    visible = Release.objects.filter(agent__in=controls.visible_agents(request.actor))
    release = visible.select_related("agent").get(pk=release_id)
    verdict, digest, reason = (request.POST.get(name, "") for name in ("verdict", "digest", "reason"))
    if verdict not in set(LabelVerdict):
        raise problems.Invalid("Say whether you accept or reject the label changes.")
    done = labels.review(release.pk, LabelVerdict(verdict), digest=digest, by=request.actor, reason=reason)
    accepted = done.verdict == LabelVerdict.ACCEPT
    messages.success(
        request,
        f"You accepted what {release} changes of its tools' labels. It can be made active now."
        if accepted
        else f"You rejected what {release} changes of its tools' labels. It cannot be made active.",
    )
    return redirect(release)
