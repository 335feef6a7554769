"""The scripted provider: a Python function answers instead of a model. No key, no network, and no cost
unless the release names a price.

A script is a pure function of the request, so a restarted worker says the same again. It registers itself by name:

    scripted.register("support-rules", agent.reply)

It may be a coroutine function, and it may bring the usage along; without one, tokens are counted from the texts.

Parameters of the release: `delay_ms` waits between the pieces of streamed text (default 0, at most 1000).
"""

from __future__ import annotations

import asyncio
import inspect
import re
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace

from runtime import tools
from runtime.messages import Reply, Usage
from runtime.policies import settling
from runtime.providers import prices
from runtime.providers.base import ModelRequest, OnText, ProviderError

Script = Callable[[ModelRequest], Reply | Awaitable[Reply]]

CHARACTERS_PER_TOKEN = 4
LONGEST_DELAY_MS = 1000
WORDS_PER_PIECE = 3

_scripts: dict[str, Script] = {}


def register(name: str, script: Script) -> None:
    """Make a script known under a name that a release's model can carry. Registering it again replaces it."""
    _scripts[name] = script


def find(name: str) -> Script | None:
    tools.known()  # modules with tools may bring scripts along
    return _scripts.get(name)


class Scripted:
    """A Provider. What it reports as its model starts with `Scripted`, so that no page takes it for a model."""

    async def reply(self, request: ModelRequest, on_text: OnText) -> Reply:
        script = find(request.model.name)
        if script is None:
            known = ", ".join(sorted(_scripts)) or "none"
            raise ProviderError(
                "bad_request", f"There is no script {request.model.name!r}. Known scripts: {known}.", retry=False
            )
        said = script(request)
        answer = await said if inspect.isawaitable(said) else said
        delay_s = _delay_s(request)
        for piece in pieces(answer.text) if delay_s else [answer.text]:
            await on_text(piece)
            await asyncio.sleep(delay_s)
        usage = answer.usage if answer.usage != Usage() else count(request, answer)
        return replace(
            answer,
            usage=usage,
            cost=prices.cost(request.model, usage, ""),
            model=f"Scripted {request.model.name}",
            stop_reason="tool_calls" if answer.calls else "stop",
        )


def count(request: ModelRequest, answer: Reply) -> Usage:
    """One token for every four characters, rounded up: of the instructions, the tools' schemas and the messages
    for the input, of the text and the calls for the output. An estimate, and marked as one.
    """
    asked = len(request.instructions) + sum(tool.characters for tool in request.tools)
    asked += settling.characters(request.messages)
    said = len(answer.text) + settling.of_calls(answer.calls)
    return Usage(input_tokens=_tokens(asked), output_tokens=_tokens(said), is_estimated=True)


def pieces(text: str) -> Iterator[str]:
    """The text in pieces of a few words; joined they give it back exactly."""
    words = re.findall(r"\s*\S+\s*", text) or ([text] if text else [])
    for start in range(0, len(words), WORDS_PER_PIECE):
        yield "".join(words[start : start + WORDS_PER_PIECE])


def _tokens(characters: int) -> int:
    return -(-characters // CHARACTERS_PER_TOKEN)


def _delay_s(request: ModelRequest) -> float:
    wanted = request.model.parameters.get("delay_ms", 0)
    is_number = isinstance(wanted, int | float) and not isinstance(wanted, bool)
    return min(max(float(wanted), 0.0), LONGEST_DELAY_MS) / 1000 if is_number else 0.0
