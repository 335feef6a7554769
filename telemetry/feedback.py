"""What people and programs think of a run."""

from __future__ import annotations

from uuid import UUID

from django.db import transaction
from django.utils import timezone

from console import audit, live, problems, redact
from console.actors import Actor
from runtime.models import Run
from telemetry import rollups
from telemetry.models import Feedback

LONGEST_COMMENT = 2000
SCORES = (Feedback.HELPFUL, Feedback.UNHELPFUL)


@transaction.atomic
def give(run_id: UUID, score: int, comment: str = "", *, by: Actor) -> Feedback:
    """Say whether a run was helpful (1) or not (-1). One word per actor and run; saying it again replaces it.

    Raises:
        Run.DoesNotExist: no such run, or it is not open to this actor.
        problems.Invalid: the score is neither, or the comment is too long.
    """
    run = Run.objects.select_related("agent").select_for_update(of=("self",), no_key=True).get(pk=run_id)
    if not by.may("feedback.give", agent=run.agent.slug):
        raise Run.DoesNotExist
    comment = redact.text(comment.strip())
    _check(score, comment)
    found = Feedback.objects.filter(run=run, by_kind=by.kind, by_id=by.id).first()
    if found and (found.score, found.comment) == (score, comment):
        return found

    before = (found.score, found.comment) if found else (None, "")
    given = found or Feedback(run=run, by_kind=by.kind, by_id=by.id)
    given.score, given.comment, given.by_label, given.changed_at = score, comment, by.label, timezone.now()
    given.save()

    changes = {"score": [before[0], score], "comment": [before[1], comment]}
    audit.record(by, "feedback.give", given, reason=comment, changes=changes)
    if run.finished_at:
        rollups.roll_up(run.finished_at)
    live.announce(rollups.TOPIC)
    return given


def of_run(run: Run, by: Actor) -> Feedback | None:
    return Feedback.objects.filter(run=run, by_kind=by.kind, by_id=by.id).first()


def _check(score: int, comment: str) -> None:
    if score not in SCORES:
        raise problems.Invalid(
            f"The score {score} is unknown. Use 1 for helpful or -1 for not helpful.",
            errors={"score": "1 for helpful, -1 for not helpful."},
        )
    if len(comment) > LONGEST_COMMENT:
        raise problems.Invalid(
            f"The comment has {len(comment)} characters; at most {LONGEST_COMMENT} are kept.",
            errors={"comment": f"At most {LONGEST_COMMENT} characters."},
        )
