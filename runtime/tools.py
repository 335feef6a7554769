"""Tools: Python functions that an agent may call.

    @tool(effect="write", retry="transactional", scope="refunds:write", arguments={"amount": "amount"})
    def issue_refund(ctx: ToolContext, order_id: str, amount: Decimal) -> dict:
        "Refund money to the customer of an order."

Arguments are validated by Pydantic from the annotations. Labels left out count as the riskiest. A tool registers
itself when its module is imported: modules are listed in settings.TOOL_MODULES (STEADYHAND_TOOLS) or offered by an
installed package under the entry point group `steadyhand.tools`.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Literal, get_type_hints

from django.conf import settings
from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from console.principals import Principal
from releases.bundles import ArgumentClass, Effect, Retry, ToolManifest

if TYPE_CHECKING:
    from console.fetch import Answer

ENTRY_POINT_GROUP = "steadyhand.tools"


@dataclass(frozen=True)
class ToolContext:
    """For whom a call is made: a tool reaches the data of this principal only.

    `idempotency_key` is the same for every attempt of the same call.
    """

    run_id: str
    thread_id: str
    agent: str
    release: str
    principal: Principal
    scopes: frozenset[str]
    idempotency_key: str

    @property
    def principal_id(self) -> str:
        return self.principal.id

    @property
    def principal_label(self) -> str:
        return self.principal.label


@dataclass(frozen=True)
class Tainted:
    """A result that nobody vouches for, whatever the manifest says of the tool: it taints the run that reads it."""

    value: Any


ErrorKind = Literal["rate_limited", "timeout", "unavailable", "bad_reply", "exception", "refused"]


class ToolError(Exception):
    """The tool cannot do what it was asked, and nothing happened. The sentence is shown to the model and to people.

    `kind` says whether the same call may succeed later: "refused" is an answer and stays one; any other kind counts
    against the tool's circuit breaker or is retried, where the release says so. `retry_after_s` is what the other side
    asked to wait.
    """

    def __init__(
        self,
        message: str,
        *,
        code: str = "tool_error",
        kind: ErrorKind = "refused",
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.kind = kind
        self.retry_after_s = retry_after_s


@dataclass(frozen=True)
class Happened:
    """The outside knows the call. `result` becomes its result; `evidence` is what people read."""

    evidence: str
    result: Any = None


@dataclass(frozen=True)
class DidNotHappen:
    """The outside would know the call by its key, and does not."""

    evidence: str


@dataclass(frozen=True)
class Unknown:
    """The outside cannot say."""

    evidence: str = "The other system could not say."


Finding = Happened | DidNotHappen | Unknown


# Asks the outside whether the call with this context's idempotency key and these arguments (in JSON form) happened.
Verify = Callable[[ToolContext, Mapping[str, Any]], Finding | Awaitable[Finding]]


class HttpLost(ConnectionError):
    """A request that may have arrived was not answered. Let through, it counts as `unavailable`."""


def fetch(
    method: str,
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
    timeout_s: float = 10.0,
    largest_bytes: int = 1_000_000,
    redirects: int = 0,
) -> Answer:
    """Ask another system over HTTP: the way out for a tool, whoever named the address. Blocks; `timeout_s` is for all.

    The name is resolved and every address checked, the connection goes to a checked one, and so does each redirect:
    nothing inside your network is reached unless STEADYHAND_ALLOW_PRIVATE_HOSTS names the host. Any status answers.

    Raises:
        ToolError: the address is refused; or a GET was not answered, which `retries` may make again. Nothing happened.
        HttpLost: another request was not answered; it may have arrived.
    """
    from console import fetch as outgoing  # many workers start without a tool that needs it

    try:
        return outgoing.request(
            method,
            url,
            headers=headers,
            body=body,
            timeout_s=timeout_s,
            largest_bytes=largest_bytes,
            redirects=redirects,
        )
    except outgoing.Refused as wrong:
        raise ToolError(str(wrong), code="address_refused") from wrong
    except outgoing.Failed as wrong:
        if method in ("GET", "HEAD"):
            raise ToolError(str(wrong), code="http_failed", kind="unavailable") from wrong
        raise HttpLost(str(wrong)) from wrong


class BadArguments(Exception):
    """The arguments break the tool's schema; `errors` maps a place to its sentence."""

    def __init__(self, errors: Mapping[str, str]) -> None:
        super().__init__("; ".join(f"{place}: {text}" for place, text in errors.items()))
        self.errors = dict(errors)


class Arguments(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


@dataclass(frozen=True)
class Tool:
    """A registered function with its manifest and the model of its arguments."""

    manifest: ToolManifest
    function: Callable[..., Any]
    arguments: type[Arguments]
    is_async: bool
    verify: Verify | None = None

    def canonical(self, raw: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments validated and in JSON form, defaults included: what digests are taken over.

        Raises:
            BadArguments: names each place and rule.
        """
        try:
            return self.arguments.model_validate(dict(raw)).model_dump(mode="json")
        except ValidationError as wrong:
            errors = {".".join(map(str, e["loc"])) or "arguments": e["msg"] for e in wrong.errors()}
            raise BadArguments(errors) from wrong

    def call(self, context: ToolContext, canonical: Mapping[str, Any]) -> Any:
        """Call the function (for an async one: return its coroutine) with typed arguments."""
        typed = self.arguments.model_validate(dict(canonical))
        return self.function(context, **{name: getattr(typed, name) for name in type(typed).model_fields})


_registry: dict[str, Tool] = {}


def tool(
    *,
    effect: Effect = "egress",
    retry: Retry | None = None,
    scope: str = "",
    arguments: Mapping[str, ArgumentClass] | None = None,
    title: str = "",
    verify: Verify | None = None,
    **labels: Any,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a function as a tool. Further labels are those of releases.bundles.ToolManifest.

    `verify` is asked after a crash whether a call happened; it must find it by the idempotency key alone.
    """

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        model = _arguments_model(function)
        manifest = ToolManifest(
            name=labels.pop("name", function.__name__),
            description=inspect.getdoc(function) or "",
            parameters=_schema(model),
            effect=effect,
            retry=retry or ("read" if effect == "read" else "unsafe"),
            scope=scope,
            arguments=dict(arguments or {}),
            title=title,
            verifies=verify is not None,
            **labels,
        )
        _register(Tool(manifest, function, model, inspect.iscoroutinefunction(function), verify))
        return function

    return register


def known() -> dict[str, Tool]:
    """Every registered tool by name, after importing the configured modules once."""
    _load()
    return dict(_registry)


def declared() -> dict[str, ToolManifest]:
    """What the installed code says of its tools, by name: the labels that were reviewed as code."""
    return {name: found.manifest for name, found in known().items()}


def find(name: str) -> Tool | None:
    _load()
    return _registry.get(name)


@lru_cache(maxsize=1)
def _load() -> None:
    for module in settings.TOOL_MODULES:
        importlib.import_module(module)
    for point in entry_points(group=ENTRY_POINT_GROUP):
        point.load()


def _register(new: Tool) -> None:
    name = new.manifest.name
    old = _registry.get(name)
    if old is not None and old.function.__module__ != new.function.__module__:
        raise ValueError(
            f"Two tools are called {name}: in {old.function.__module__} and in {new.function.__module__}. Rename one."
        )
    _registry[name] = new


def _arguments_model(function: Callable[..., Any]) -> type[Arguments]:
    hints = get_type_hints(function, include_extras=True)
    fields: dict[str, Any] = {}
    for position, (name, parameter) in enumerate(inspect.signature(function).parameters.items()):
        if position == 0:
            continue  # the context
        default = ... if parameter.default is inspect.Parameter.empty else parameter.default
        fields[name] = (hints.get(name, Any), default)
    return create_model(f"{function.__name__}_arguments", __base__=Arguments, **fields)


def _schema(model: type[Arguments]) -> dict[str, Any]:
    schema = model.model_json_schema()
    schema.pop("title", None)
    return schema
