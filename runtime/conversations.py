"""Threads: who may write into one, and what happens to a message while an earlier one is not answered yet.

One run of a thread is active at a time. Writers take the thread's row lock, so that they come one after the other;
they lock the unfinished runs in order of age before they mark them as awaited, so that a run either ends first and
nobody waits for it, or ends with the mark and wakes who waits. The database holds the rule once more, in a partial
unique index.
"""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

from django.db.models import Q, QuerySet

from console import ids, problems
from console.actors import Actor
from console.principals import Principal
from releases.models import Agent
from runtime.models import Run, Thread
from runtime.states import FINAL, Hold, OnBusy

MOST_IN_LINE = 100


def begin(agent: Agent, principal: Principal, scopes: Iterable[str]) -> Thread:
    return Thread.objects.create(
        agent=agent,
        principal_id=principal.id,
        principal_label=principal.label,
        principal_attributes=dict(principal.attributes),
        scopes=sorted(scopes),
    )


def locked(thread_id: UUID, agent: Agent, principal: Principal) -> Thread:
    """The thread to write into, held until the caller's transaction ends. What a run has read taints it for good.

    It keeps the attributes of its principal: whoever says something else of them has another principal in mind.

    Raises:
        problems.Missing: this person has no such thread with this agent.
    """
    found = Thread.objects.select_for_update().filter(pk=thread_id, agent=agent, principal_id=principal.id)
    thread = found.first()
    if thread is None or not principal.attributes.items() <= thread.principal_attributes.items():
        raise problems.Missing(f"This person has no thread {ids.public('thr', thread_id)} with {agent.name}.")
    if not thread.tainted and thread.runs.filter(tainted=True).exists():
        thread.tainted = True
        thread.save(update_fields=["tainted"])
    return thread


def active(thread: Thread) -> Run | None:
    """The run whose turn it is."""
    return unfinished(thread).exclude(held_for=Hold.THREAD).first()


def join(thread: Thread, on_busy: OnBusy) -> bool:
    """Take a place in the locked thread. True: behind an earlier run, whose end will let this one start.

    Raises:
        problems.Conflict: an earlier run has not ended, and the caller does not want to wait.
        problems.TooMany: too many are in line already.
    """
    ahead = list(unfinished(thread).select_for_update(of=("self",)))
    if not ahead:
        return False
    if on_busy == OnBusy.REJECT:
        raise problems.Conflict(
            f"{ahead[0].public_id} of this thread is still {ahead[0].status}. Wait for its end or cancel it, then send "
            "the message again; or send it with on_busy queue, or interrupt."
        )
    if len(ahead) > MOST_IN_LINE:
        raise problems.TooMany(
            f"{MOST_IN_LINE} messages are in line in this thread already. Wait for answers, then go on.", retry_after=30
        )
    Run.objects.filter(pk__in=[run.pk for run in ahead]).update(is_awaited=True)
    return True


def unfinished(thread: Thread) -> QuerySet[Run]:
    """Runs that came before a new one and have not ended, oldest first; those whose time has not come do not count."""
    return thread.runs.exclude(status__in=FINAL).exclude(held_for=Hold.TIMER).order_by("queued_at", "pk")


def visible_to(actor: Actor) -> QuerySet[Thread]:
    """The threads of agents whose runs this actor may see."""
    allowed = actor.agents("runs.read")
    found = Thread.objects.select_related("agent__active_release")
    return found if allowed is None else found.filter(agent__slug__in=allowed)


def tainted(thread: Thread) -> bool:
    """Whether anything said in the thread may have been steered by content nobody vouches for."""
    return thread.tainted or thread.runs.filter(Q(tainted=True)).exists()
