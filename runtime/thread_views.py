"""Entry points for people who follow a conversation, and what an agent remembers of a person."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.contrib import messages
from django.http import HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.http import urlencode
from django.views.decorators.http import require_GET, require_POST

from console import jsonview, paging, problems
from console.access import Request, requires
from releases.models import Agent
from runtime import conversations, masking, memories, readings
from runtime.memories import Entry
from runtime.models import Memory, Thread

MOST_RUNS = 50


@require_GET
@requires("runs.read")
def thread_detail(request: Request, thread_id: UUID) -> HttpResponse:
    """The conversation, whether it may be steered from outside, and what is remembered of whom it is with."""
    thread = conversations.visible_to(request.actor).get(pk=thread_id)
    shown = masking.masked_for(request.actor, thread.agent.slug)
    found = list(thread.runs.order_by("-created_at", "-pk")[: MOST_RUNS + 1])
    runs = found[:MOST_RUNS][::-1]
    unfinished = [run for run in runs if not run.is_final]
    agent = thread.agent.slug
    context = {
        "thread": thread,
        "principal": shown(thread.principal_label or thread.principal_id),
        "turns": [readings.turn(run, None, shown) for run in runs],
        "is_cut": len(found) > MOST_RUNS,
        "tainted": thread.tainted or any(run.tainted for run in found),
        "active": next((run for run in unfinished if run.held_for != "thread"), None),
        "waiting_label": _in_line(sum(run.held_for == "thread" for run in unfinished)),
        "may_start": request.actor.may("runs.create", agent=agent) and all(run.kind == "live" for run in runs[-1:]),
        "memory": _memory(request, thread),
    }
    return render(request, "runtime/thread_detail.html", context)


@require_GET
@requires("memory.read")
def memory_list(request: Request) -> HttpResponse:
    """What agents remember of one person; or the people of whom something is remembered."""
    principal_id, slug = request.GET.get("principal", "").strip()[:120], request.GET.get("agent", "")
    rows = memories.visible_to(request.actor)
    rows = rows.filter(agent__slug=slug) if slug else rows
    found = rows.filter(principal_id=principal_id) if principal_id else rows
    page: paging.Page[Memory] = paging.page(found, request.GET)
    context = {
        "principal_id": principal_id,
        "agent": slug,
        "agents": [(agent.slug, agent.name) for agent in _agents(request)],
        "page": page,
        "rows": [_row(request, row) for row in page.items],
        "may_erase": request.actor.may("memory.erase"),
        "rest": urlencode({name: value for name, value in (("principal", principal_id), ("agent", slug)) if value}),
    }
    return render(request, "runtime/memory_list.html", context)


@require_POST
@requires("memory.erase")
def memory_delete(request: Request, memory_id: UUID) -> HttpResponseBase:
    entry = memories.delete(memory_id, by=request.actor, reason=request.POST.get("reason", ""))
    messages.success(request, f"Deleted {entry.key}.")
    return redirect(f"{reverse('runtime:memory-list')}?{urlencode({'principal': entry.principal_id})}")


@require_POST
@requires("memory.erase")
def memory_erase(request: Request) -> HttpResponseBase:
    principal_id = request.POST.get("principal", "").strip()
    if not principal_id:
        raise problems.Invalid("Say whose memory is erased.", errors={"principal": "It is missing."})
    count = memories.erase(
        principal_id, by=request.actor, reason=request.POST.get("reason", ""), agent=request.POST.get("agent", "")
    )
    messages.success(request, f"Erased {count} entr{'y' if count == 1 else 'ies'}.")
    return redirect(f"{reverse('runtime:memory-list')}?{urlencode({'principal': principal_id})}")


def _in_line(count: int) -> str:
    return f"{count} message{'' if count == 1 else 's'} in line" if count else ""


def _memory(request: Request, thread: Thread) -> dict[str, Any] | None:
    """What the agent's active release reads of the person; None for those who may not see it."""
    if not request.actor.may("memory.read", agent=thread.agent.slug):
        return None
    rows = memories.visible_to(request.actor).filter(agent=thread.agent, principal_id=thread.principal_id)
    release = thread.agent.active_release
    schema = int(release.content.get("memory_schema_version", 1)) if release else 1
    found = memories.read(rows, thread.agent.slug, schema)
    query = urlencode({"principal": thread.principal_id, "agent": thread.agent.slug})
    return {
        "entries": [_shown(entry) for entry in found.entries],
        "ignored": found.ignored,
        "url": f"{reverse('runtime:memory-list')}?{query}",
        "schema": schema,
    }


def _shown(entry: Entry) -> dict[str, Any]:
    return {"entry": entry, "value": jsonview.render(entry.value)}


def _row(request: Request, row: Memory) -> dict[str, Any]:
    return {
        "row": row,
        "value": jsonview.render(row.value),
        "may_delete": request.actor.may("memory.erase", agent=row.agent.slug),
    }


def _agents(request: Request) -> list[Agent]:
    allowed = request.actor.agents("memory.read")
    found = Agent.objects.order_by("name")
    return list(found if allowed is None else found.filter(slug__in=allowed))
