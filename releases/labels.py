"""What a release changes of its tools' labels, and the second person's review of exactly that.

A tool's labels are accepted when the agent's active release has them, or when the code that declares the tool does (it
is reviewed as code). What a release says otherwise is a label change. It is worked out anew whenever it matters, from
rows whose digests and seals are compared, so that no edit of a row makes a change smaller than it is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import Q

from console import audit, live, people, problems, redact, seals
from console.access import refusal
from console.actors import Actor
from releases.bundles import ToolManifest, canonical
from releases.models import Activation, Agent, LabelReview, Release
from releases.policies import labelling
from releases.policies.labelling import Baseline, Change
from releases.states import LabelVerdict

Installed = Callable[[], Mapping[str, ToolManifest]]
LONGEST_REASON = 2000
CODE = "the installed code"
MADE, REVIEWED = "release", "label review"  # what seals are for

_installed: list[Installed] = []


def register(installed: Installed) -> None:
    """Say what the installed code declares of its tools; whoever executes releases knows."""
    _installed[:] = [installed]


def installed() -> Mapping[str, ToolManifest]:
    return _installed[0]() if _installed else {}


@dataclass(frozen=True)
class Standing:
    """Where the label changes of a release stand. `digest` is of those that need a review; empty when none does.

    `review` is the word that counts, `lapsed` one of somebody who may not review any more. A release that has answered
    before may return as it is: what it changes was reviewed when it first became active.
    """

    changes: tuple[Change, ...]
    unlabelled: tuple[str, ...]
    digest: str = ""
    review: LabelReview | None = None
    lapsed: LabelReview | None = None
    has_answered: bool = False

    @property
    def to_review(self) -> list[Change]:
        return [change for change in self.changes if change.needs_review]

    @property
    def is_accepted(self) -> bool:
        return not self.digest or (self.review is not None and self.review.verdict == LabelVerdict.ACCEPT)

    @property
    def is_open(self) -> bool:
        """Whether it waits for somebody to review it."""
        return bool(self.digest) and self.review is None and not (self.unlabelled or self.has_answered)


def declare(release: Release) -> None:
    """Keep with a new release what the installed code says of its tools now: later code may say something else.

    Recorded tools are none of the installed ones, whatever their names.
    """
    known = {} if _is_recorded(release) else installed()
    ours = [tool.name for tool in release.bundle.tools if not tool.server]  # an MCP server declares nothing
    names = [name for name in ours if name in known and known[name].labelled]
    release.declared = {name: labelling.labels(known[name]) for name in names}
    seal(release)


def seal(release: Release) -> None:
    release.declared_seal = seals.seal(MADE, *_made(release))


def standing(release: Release) -> Standing:
    """What the release changes, seen from the agent's active release. Needs `release.agent.active_release`."""
    found = Standing(labelling.changes(release.bundle, _baselines(release)), labelling.unlabelled(release.bundle))
    if not found.to_review:
        return found
    digest = _digest(release, found.to_review)
    found = replace(found, digest=digest, has_answered=has_answered(release))
    stored = LabelReview.objects.filter(release=release, digest=digest).first()
    if stored is None or not seals.fits(stored.seal, REVIEWED, *_reviewed(stored)):
        return found
    reviewer = people.still(stored.by_kind, stored.by_id)
    counts = stored.by_kind == "system" or (reviewer is not None and not _may_not(release, reviewer))
    return replace(found, review=stored) if counts else replace(found, lapsed=stored)


def is_reviewed(release: Release, tool: str) -> bool:
    """Whether the labels that the release gives this tool stand.

    True when they are the accepted ones (of the agent's active release, or of the installed code), or when a second
    person has reviewed exactly this change of exactly this release. Never true of a tool with `labelled` false.
    """
    found = standing(release)
    if tool in found.unlabelled or tool not in release.bundle.toolset:
        return False
    return found.is_accepted or all(change.tool != tool for change in found.to_review)


def has_answered(release: Release) -> bool:
    """Whether it was the active release of its agent before."""
    return Activation.objects.filter(Q(release=release) | Q(previous=release)).exists()


def why_not(release: Release) -> str:
    """Why the release's labels keep it from answering new runs; empty when they do not."""
    if not _fits_its_digest(release) or not (_is_as_made(release) or has_answered(release)):
        return (
            f"What is stored of release {release.version} is not what it was made with: it was changed in the "
            "database, or the audit key is another. Store it again as a new release."
        )
    if names := ", ".join(labelling.unlabelled(release.bundle)):
        return (
            f"Release {release.version} has tools whose labels nobody has reviewed: {names}. "
            "Label them in a new release."
        )
    return why_open(standing(release))


def why_open(found: Standing) -> str:
    """Why the label changes themselves keep a release from answering; empty once they are accepted."""
    if found.is_accepted or found.has_answered:
        return ""
    what = f"what the gate is told of {', '.join(change.tool for change in found.to_review)}"
    if found.review is not None:
        return f"{found.review.by_label} has rejected how it changes {what}. Make a new release."
    if found.lapsed is not None:
        return (
            f"{found.lapsed.by_label}, who reviewed how it changes {what}, may not do so any more. Ask somebody else."
        )
    return f"It changes {what}. A second person has to review that first."


def right(release: Release, *, by: Actor) -> str:
    """Why this actor may not review the release's label changes; empty when they may."""
    if by.kind == "system":
        return "Only a person reviews labels. What the product makes itself, it vouches for."
    return _may_not(release, by)


def _may_not(release: Release, by: Actor) -> str:
    if not by.may("labels.review", agent=release.agent.slug):
        return refusal("labels.review")
    if people.of(by) == people.behind(release.created_by_id):
        return "You made this release, so a second person has to review its labels. Ask a colleague."
    return ""


@transaction.atomic
def review(release_id: UUID, verdict: LabelVerdict, *, digest: str, by: Actor, reason: str) -> LabelReview:
    """Say for good that these label changes of this release are right, or that they are not.

    `digest` is that of the changes as they were read. The same word of the same person again changes nothing.

    Raises:
        Release.DoesNotExist: no such release.
        problems.Forbidden: this actor may not review labels, or made the release.
        problems.Conflict: the changes are others by now, or somebody has reviewed them.
        problems.Invalid: the reason is missing, or there is nothing to review.
    """
    release = _locked(release_id)
    if why := right(release, by=by):
        raise problems.Forbidden(why)
    found = standing(release)
    if found.review is not None and (found.review.by_id, found.review.verdict) == (by.id, verdict):
        return found.review
    _reviewable(release, found, digest)
    return _store(release, found, verdict, by=by, reason=_reason(reason))


@transaction.atomic
def vouch(release: Release, *, by: Actor, reason: str) -> LabelReview | None:
    """The product's own word for a release that it makes itself. None when the release changes no labels.

    Raises:
        problems.Forbidden: a person or a program asks; they review.
    """
    if by.kind != "system":
        raise problems.Forbidden("Only the product vouches for its own releases. A second person reviews yours.")
    release = _locked(release.pk)
    found = standing(release)
    if not found.digest or found.review is not None:
        return found.review
    return _store(release, found, LabelVerdict.ACCEPT, by=by, reason=reason)


def _locked(release_id: UUID) -> Release:
    """The release, with its agent held: which release is active does not change meanwhile."""
    release = Release.objects.get(pk=release_id)
    agent = Agent.objects.select_for_update(of=("self",)).select_related("active_release").get(pk=release.agent_id)
    release.agent = agent
    return release


def _reviewable(release: Release, found: Standing, digest: str) -> None:
    if found.unlabelled or not (_fits_its_digest(release) and _is_as_made(release)):
        raise problems.Invalid(why_not(release))
    if not found.digest:
        raise problems.Invalid(f"Release {release.version} changes no label in a way that needs a second person.")
    if found.review is not None:
        word = "accepted" if found.review.verdict == LabelVerdict.ACCEPT else "rejected"
        raise problems.Conflict(
            f"{found.review.by_label} {word} these label changes at {found.review.at:%H:%M} UTC. "
            "Your review was not used."
        )
    if digest != found.digest:
        raise problems.Conflict("The label changes are others by now. Read them again before you review them.")


def _store(release: Release, found: Standing, verdict: LabelVerdict, *, by: Actor, reason: str) -> LabelReview:
    """Write the review. A row of the same changes that does not count gives way to it; the audit log keeps both."""
    told = [
        {"tool": one.tool, "source": one.source, "direction": one.direction, "before": one.before, "after": one.after}
        for one in found.changes
    ]
    LabelReview.objects.filter(release=release, digest=found.digest).delete()
    made = LabelReview(
        release=release,
        digest=found.digest,
        verdict=verdict,
        changes=told,
        reason=reason,
        by_kind=by.kind,
        by_id=by.id,
        by_label=by.label,
    )
    made.seal = seals.seal(REVIEWED, *_reviewed(made))
    made.save()
    action = "labels.accept" if verdict == LabelVerdict.ACCEPT else "labels.reject"
    changes = {"label changes": [None, labelling.summary(found.changes)], "digest": [None, found.digest]}
    audit.record(by, action, release, reason=reason, changes=changes)
    live.announce("releases")
    return made


def _reason(reason: str) -> str:
    reason = reason.strip()
    if not reason:
        raise problems.Invalid("Say why. It is kept in the audit log.", errors={"reason": "Say why."})
    return redact.text(reason[:LONGEST_REASON])


def _baselines(release: Release) -> dict[str, Baseline]:
    """The accepted labels of each tool: those of the active release before those of the code."""
    found = {}
    if _is_as_made(release):
        for name, labels in release.declared.items():
            found[name] = Baseline(CODE, ToolManifest.model_validate({"name": name, **labels}))
    active = release.agent.active_release
    # What a recorded tool was labelled as says nothing about the real one of the same name.
    if active is not None and _is_recorded(active) == _is_recorded(release) and _fits_its_digest(active):
        source = f"release {active.version}"
        found |= {tool.name: Baseline(source, tool) for tool in active.bundle.tools if tool.labelled}
    return found


def _is_recorded(release: Release) -> bool:
    return release.bundle.model.provider == "replay"


def _fits_its_digest(release: Release) -> bool:
    return hashlib.sha256(canonical(release.content).encode()).hexdigest() == release.digest


def _is_as_made(release: Release) -> bool:
    """Whether author and declared labels are those it was made with. Releases from before they were kept have none."""
    if not release.declared_seal:
        return not release.declared
    return seals.fits(release.declared_seal, MADE, *_made(release))


def _made(release: Release) -> tuple[Any, ...]:
    return str(release.pk), release.digest, release.created_by_id, release.declared


def _reviewed(review: LabelReview) -> tuple[Any, ...]:
    return str(review.release_id), review.digest, review.verdict, review.by_kind, review.by_id


def _digest(release: Release, changes: list[Change]) -> str:
    """What a review is bound to: exactly these changes of exactly this release."""
    told = [[change.tool, change.before, change.after] for change in changes]
    return hashlib.sha256(canonical([release.digest, told]).encode()).hexdigest()
