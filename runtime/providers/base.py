"""What a model provider is: one request in, one reply out. The loop, retries and budgets stay outside."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol
from uuid import UUID

from releases.bundles import ModelSpec, ToolManifest
from runtime.messages import Cost, Message, Reply, Usage

OnText = Callable[[str], Awaitable[None]]


@dataclass(frozen=True)
class ModelRequest:
    """Everything a provider may know of one call."""

    model: ModelSpec
    instructions: str
    messages: tuple[Message, ...]
    tools: tuple[ToolManifest, ...]
    run_id: UUID
    thread_id: UUID
    turn: int = 0  # how many runs of this thread came before this one
    history: int = field(default=0)  # how many of `messages` come from earlier runs


class Provider(Protocol):
    async def reply(self, request: ModelRequest, on_text: OnText) -> Reply:
        """Answer once. `on_text` receives pieces of text as they arrive.

        Raises:
            ProviderError: with a kind that says whether trying again can help.
        """
        ...


class ProviderError(Exception):
    """A model call failed. `code` is stored on the step; `retry` says whether the same request may succeed later.

    `usage` and `cost` are what the failed call is charged: a reply that came and cannot be used was paid for.
    `ends` and `cause` are for a provider that knows how the run must end: a status of runtime.states.RunStatus.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        retry: bool,
        retry_after_s: float | None = None,
        usage: Usage | None = None,
        cost: Cost | None = None,
        ends: str = "",
        cause: str = "",
    ) -> None:
        super().__init__(message)
        self.code = code  # rate_limited, timeout, unavailable, bad_request, bad_reply, recording_diverged, ...
        self.retry = retry
        self.retry_after_s = retry_after_s
        self.usage = usage or Usage()
        self.cost = cost or Cost()
        self.ends = ends
        self.cause = cause or code
