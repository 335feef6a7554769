"""Entry points for programs: conversations, and what agents remember of people."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import Exists, OuterRef, QuerySet
from ninja import Query, Router, Schema
from pydantic import Field

from console import envelope, ids
from console.access import Request
from console.bearer import Token
from runtime import conversations, masking, memories
from runtime.models import Memory, Run, Thread
from runtime.states import RunStatus

router = Router()

LATEST_RUNS = 100


class ThreadLine(Schema):
    thread_id: str
    agent: str
    user_id: str
    user_label: str
    tainted: bool = Field(description="A run of it has read untrusted content; every later run starts tainted")
    created_at: datetime


class Said(Schema):
    run_id: str
    status: RunStatus
    wait_reason: str
    tainted: bool
    input: str
    answer: str
    created_at: datetime
    finished_at: datetime | None


class ThreadOut(ThreadLine):
    active_run_id: str | None = Field(description="The run whose turn it is; null when the thread is free")
    in_line: int = Field(description="Messages that wait for their turn")
    runs: list[Said] = Field(description=f"Oldest first; the latest {LATEST_RUNS} at most")


class ThreadFilters(envelope.Filters):
    agent: str | None = Field(None, max_length=50)
    user_id: str | None = Field(None, max_length=120)


class MemoryOut(Schema):
    memory_id: str
    agent: str
    user_id: str
    key: str
    value: Any
    schema_version: int
    version: int = Field(description="Grows with every write")
    tainted: bool
    written_by_run_id: str | None
    updated_at: datetime


class MemoryFilters(envelope.Filters):
    user_id: str = Field(min_length=1, max_length=120)
    agent: str | None = Field(None, max_length=50)


class EraseIn(envelope.Body):
    user_id: str = Field(min_length=1, max_length=120)
    agent: str = Field("", max_length=50, description="Left out: with every agent whose memory the token may erase")
    reason: str = Field(min_length=1, max_length=2000, description="Goes to the audit log")


class ErasedOut(Schema):
    erased: int


@router.get("/threads", auth=Token("runs.read"), response=envelope.Page[ThreadLine], tags=["Threads"])
def list_threads(request: Request, filters: Query[ThreadFilters]) -> Any:
    """Conversations, newest first; of one person with user_id."""
    chosen = {"agent__slug": filters.agent, "principal_id": filters.user_id}
    rows = _threads(request).filter(**{name: value for name, value in chosen.items() if value is not None})
    items, after = envelope.cut(rows, filters)
    return {"items": [_line(request, row) for row in items], "next_cursor": after}


@router.get("/threads/{thread_id}", auth=Token("runs.read"), response=ThreadOut, tags=["Threads"])
def get_thread(request: Request, thread_id: envelope.ThreadId) -> Any:
    """What was said in a conversation, and which run of it is active."""
    thread = _threads(request).get(pk=thread_id)
    shown = masking.masked_for(request.actor, thread.agent.slug)
    runs = list(thread.runs.order_by("-created_at", "-pk")[:LATEST_RUNS])[::-1]
    active = conversations.active(thread)
    return {
        **_line(request, thread),
        "active_run_id": active.public_id if active else None,
        "in_line": conversations.unfinished(thread).filter(held_for="thread").count(),
        "runs": [_said(run, shown) for run in runs],
    }


@router.get("/memories", auth=Token("memory.read"), response=envelope.Page[MemoryOut], tags=["Memory"])
def list_memories(request: Request, filters: Query[MemoryFilters]) -> Any:
    """What agents remember of one person, as it is stored."""
    rows = memories.visible_to(request.actor).filter(principal_id=filters.user_id)
    rows = rows.filter(agent__slug=filters.agent) if filters.agent is not None else rows
    items, after = envelope.cut(rows, filters)
    return {"items": [_memory(row) for row in items], "next_cursor": after}


@router.post("/memories/erase", auth=Token("memory.erase"), response=ErasedOut, tags=["Memory"])
def erase_memories(request: Request, body: EraseIn) -> Any:
    """Delete everything remembered of a person for good. Traces of runs stay as they are."""
    return {"erased": memories.erase(body.user_id, by=request.actor, reason=body.reason, agent=body.agent)}


def _threads(request: Request) -> QuerySet[Thread]:
    read = Run.objects.filter(thread=OuterRef("pk"), tainted=True)
    return conversations.visible_to(request.actor).annotate(has_tainted=Exists(read))


def _line(request: Request, thread: Any) -> dict[str, Any]:
    shown = masking.masked_for(request.actor, thread.agent.slug)
    return {
        "thread_id": thread.public_id,
        "agent": thread.agent.slug,
        "user_id": shown(thread.principal_id),
        "user_label": shown(thread.principal_label),
        "tainted": thread.tainted or thread.has_tainted,
        "created_at": thread.created_at,
    }


def _said(run: Run, shown: masking.Shown) -> dict[str, Any]:
    return {
        "run_id": run.public_id,
        "status": run.status,
        "wait_reason": "" if run.is_final else run.wait_reason,
        "tainted": run.tainted,
        "input": shown(run.input_text),
        "answer": shown(run.answer),
        "created_at": run.created_at,
        "finished_at": run.finished_at,
    }


def _memory(row: Memory) -> dict[str, Any]:
    return {
        "memory_id": row.public_id,
        "agent": row.agent.slug,
        "user_id": row.principal_id,
        "key": row.key,
        "value": row.value,
        "schema_version": row.schema_version,
        "version": row.version,
        "tainted": row.tainted,
        "written_by_run_id": _run_id(row.written_by_run_id),
        "updated_at": row.updated_at,
    }


def _run_id(key: UUID | None) -> str | None:
    return ids.public("run", key) if key else None
