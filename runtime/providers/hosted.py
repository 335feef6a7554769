"""Models behind HTTP: OpenAI, Anthropic, and every server that speaks OpenAI's chat completions.

One call of ours is one request to the vendor. The vendors' packages would retry on their own; that is switched off,
because the loop counts attempts, waits between them and writes each one down.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import warnings
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast
from weakref import WeakKeyDictionary

from pydantic_ai import UsageExtractionFailedWarning, direct
from pydantic_ai import messages as theirs
from pydantic_ai.settings import ModelSettings

from releases.bundles import ModelSpec
from runtime.messages import Reply, Usage
from runtime.policies import usage as usage_policy
from runtime.providers import arguments, conversation, failures, prices
from runtime.providers.base import ModelRequest, OnText, ProviderError

if TYPE_CHECKING:
    from pydantic_ai.models import Model, StreamedResponse

CONNECT_SECONDS = 10.0
LONGEST_REPLY = 2_000_000
KEY_VARIABLES = {"openai": "OPENAI_API_KEY", "anthropic": "ANTHROPIC_API_KEY"}
NO_KEY = "no-key-needed"

# Parameters that pydantic-ai translates for each vendor; every other one goes into the request's body as it is.
TRANSLATED = frozenset(
    {
        "max_tokens", "temperature", "top_p", "seed", "presence_penalty", "frequency_penalty", "logit_bias",
        "stop_sequences", "parallel_tool_calls", "tool_choice", "thinking", "service_tier",
    }
)  # fmt: skip
# What the loop decides; a release that sets one of these would speak past the gate, the budgets or the trace.
RESERVED = frozenset(
    {
        "model", "messages", "system", "tools", "functions", "stream", "stream_options", "n", "timeout",
        "request_timeout", "first_event_timeout", "max_retries", "extra_headers", "extra_body",
    }
)  # fmt: skip

# A count that cannot be read is noticed and charged by runtime.policies.usage.
warnings.filterwarnings("ignore", category=UsageExtractionFailedWarning)

_Clients = dict[tuple[str, ...], Any]
_clients: WeakKeyDictionary[asyncio.AbstractEventLoop, _Clients] = WeakKeyDictionary()


class Hosted:
    async def reply(self, request: ModelRequest, on_text: OnText) -> Reply:
        spec, key = request.model, _key(request.model)
        stream = direct.model_request_stream(
            _model(spec, key),
            conversation.outgoing(request),
            model_settings=_settings(spec),
            model_request_parameters=conversation.parameters(request),
        )
        heard = _Heard()
        try:
            with failures.mapped(spec, key):
                return await _read(request, stream, on_text, heard)
        except ProviderError as wrong:
            _charge(wrong, request, heard)
            raise
        except failures.NotTheirsError as ours:
            raise ours.wrong from None


PROVIDER = Hosted()


def load(provider: str) -> None:
    """Import a vendor's package ahead of the first call."""
    importlib.import_module(f"pydantic_ai.models.{'anthropic' if provider == 'anthropic' else 'openai'}")


async def aclose_all() -> None:
    """Close every connection that the running loop opened."""
    for client in _clients.pop(asyncio.get_running_loop(), {}).values():
        await client.close()


@dataclass
class _Heard:
    """How much of the reply has come: zero while the vendor has not begun to answer."""

    characters: int = 0


async def _read(
    request: ModelRequest, opening: AbstractAsyncContextManager[StreamedResponse], on_text: OnText, heard: _Heard
) -> Reply:
    async with opening as stream:
        async for event in stream:
            said, length = _piece(event)
            heard.characters += length
            if heard.characters > LONGEST_REPLY:
                raise ProviderError(
                    "bad_reply", f"The reply is longer than {LONGEST_REPLY} characters and was cut off.", retry=False
                )
            if said:
                await _tell(on_text, said)
        return _finished(request, stream.get(), heard.characters)


def _charge(wrong: ProviderError, request: ModelRequest, heard: _Heard) -> None:
    """A reply that broke off was paid for, though nobody reported how much."""
    if heard.characters and wrong.usage == Usage():
        wrong.usage = usage_policy.estimate(conversation.characters(request), heard.characters)
        wrong.cost = prices.cost(request.model, wrong.usage, "")


async def _tell(on_text: OnText, said: str) -> None:
    try:
        await on_text(arguments.writable(said))
    except Exception as wrong:  # a lost lease, say; nothing the vendor did
        raise failures.NotTheirsError(wrong) from wrong


def _finished(request: ModelRequest, response: theirs.ModelResponse, size: int) -> Reply:
    spec = request.model
    usage = _usage(request, response.usage, size)
    model = (response.model_name or spec.name)[:120]
    cost = prices.cost(spec, usage, model)
    text = conversation.text_of(response)
    calls = conversation.calls_of(response, request.messages)
    if response.finish_reason is None:
        raise ProviderError(
            "bad_reply", f"The reply of {spec.name} broke off before its end.", retry=True, usage=usage, cost=cost
        )
    if not text.strip() and not calls:
        limited = response.finish_reason == "length"
        why = "used up its token limit before it said anything; raise max_tokens" if limited else "said nothing"
        raise ProviderError("bad_reply", f"{spec.name} {why}.", retry=not limited, usage=usage, cost=cost)
    return Reply(text, calls, usage, cost, model, response.finish_reason, conversation.opaque_of(response))


def _usage(request: ModelRequest, found: Any, size: int) -> Usage:
    reported = usage_policy.Reported()
    if not found.unmeasured_requests:
        reported = usage_policy.Reported(found.input_tokens, found.cache_read_tokens, found.output_tokens)
    decided = usage_policy.decide_usage(
        reported, request_characters=conversation.characters(request), reply_characters=size
    )
    if isinstance(decided, usage_policy.Doubted):
        failures.log.warning("%s: %s Charged by the length of its texts.", request.model.name, decided.reason)
    return decided.usage


def _piece(event: theirs.ModelResponseStreamEvent) -> tuple[str, int]:
    """The text for people in one event, and how many characters of any kind it brought."""
    if isinstance(event, theirs.PartStartEvent):
        part = event.part
        if isinstance(part, theirs.TextPart):
            return part.content, len(part.content)
        content = getattr(part, "content", None) or getattr(part, "args", None)
        return "", len(content) if isinstance(content, str) else 0
    if isinstance(event, theirs.PartDeltaEvent):
        delta = event.delta
        if isinstance(delta, theirs.TextPartDelta):
            return delta.content_delta, len(delta.content_delta)
        content = getattr(delta, "content_delta", None) or getattr(delta, "args_delta", None)
        return "", len(content) if isinstance(content, str) else 0
    return "", 0


def _key(spec: ModelSpec) -> str:
    variable = spec.api_key_variable or KEY_VARIABLES.get(spec.provider, "")
    if not variable:
        return NO_KEY
    key = os.environ.get(variable, "").strip()
    if not key:
        raise ProviderError(
            "no_key",
            f"The model {spec.name} needs a key in the environment variable {variable}, which is not set. "
            "Set it for the workers and start them again.",
            retry=False,
        )
    return key


def _settings(spec: ModelSpec) -> ModelSettings:
    reserved = sorted(RESERVED & spec.parameters.keys())
    if reserved:
        raise ProviderError(
            "bad_request",
            f"The parameters of {spec.name} set {', '.join(reserved)}, which the runtime decides. Remove them.",
            retry=False,
        )
    translated = TRANSLATED | ({"top_k"} if spec.provider == "anthropic" else set())
    known = {name: value for name, value in spec.parameters.items() if _is_translated(name, translated)}
    other = {name: value for name, value in spec.parameters.items() if name not in known}
    # No max_retries here: it would copy the client for each call, and read OPENAI_ORG_ID anew. The client has it.
    return cast(
        "ModelSettings", {**known, **({"extra_body": other} if other else {}), "request_timeout": spec.timeout_s}
    )


def _is_translated(name: str, translated: frozenset[str] | set[str]) -> bool:
    return name in translated or name.startswith(("openai_", "anthropic_"))


def _model(spec: ModelSpec, key: str) -> Model:
    if spec.provider == "anthropic":
        from pydantic_ai.models.anthropic import AnthropicModel
        from pydantic_ai.providers.anthropic import AnthropicProvider

        return AnthropicModel(spec.name, provider=AnthropicProvider(anthropic_client=_client(spec, key)))
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.profiles.openai import OpenAIModelProfile
    from pydantic_ai.providers.openai import OpenAIProvider
    from pydantic_ai.providers.openai_compatible import OpenAICompatibleProvider

    profile = OpenAIModelProfile(openai_chat_streaming_requires_finish_reason=True)
    if spec.provider == "openai":
        return OpenAIChatModel(spec.name, provider=OpenAIProvider(openai_client=_client(spec, key)), profile=profile)
    # Ollama and older llama.cpp know max_tokens only.
    profile["openai_chat_supports_max_completion_tokens"] = False
    provider = OpenAICompatibleProvider("openai-compatible", openai_client=_client(spec, key))
    return OpenAIChatModel(spec.name, provider=provider, profile=profile)


def _client(spec: ModelSpec, key: str) -> Any:
    """One client, and so one pool of connections, per event loop, address and key."""
    mine = _clients.setdefault(asyncio.get_running_loop(), {})
    name = (spec.provider, spec.base_url or "", key, str(spec.timeout_s))
    if name not in mine:
        mine[name] = _new_client(spec, key)
    return mine[name]


def _new_client(spec: ModelSpec, key: str) -> Any:
    import httpx2

    timeout = httpx2.Timeout(spec.timeout_s, connect=min(CONNECT_SECONDS, spec.timeout_s))
    # A redirect would carry the whole conversation to an address that nobody configured.
    if spec.provider == "anthropic":
        import anthropic

        http = anthropic.DefaultAsyncHttpxClient(follow_redirects=False, timeout=timeout)
        return anthropic.AsyncAnthropic(api_key=key, max_retries=0, timeout=timeout, http_client=http)
    import openai

    http = openai.DefaultAsyncHttpxClient(follow_redirects=False, timeout=timeout)
    client = openai.AsyncOpenAI(api_key=key, base_url=spec.base_url, max_retries=0, timeout=timeout, http_client=http)
    if spec.provider != "openai":
        client.organization = client.project = None  # read from OPENAI_ORG_ID; no business of another server
    return client
