"""The release bundle: everything a run is executed with, validated and hashed. See docs/reference/bundle.md."""

from __future__ import annotations

import hashlib
import json
from decimal import Decimal
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from console.principals import PrincipalKind
from console.roles import Role
from releases.states import SERVER_MARK

Name = Annotated[str, Field(min_length=1, max_length=80, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.\-]*$")]
ProviderName = Literal["scripted", "replay", "openai", "anthropic", "openai-compatible"]


class Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Price(Part):
    """USD per million tokens; set it for endpoints that no public price list knows."""

    input_usd: Decimal = Field(ge=0)
    cached_input_usd: Decimal | None = Field(default=None, ge=0)
    output_usd: Decimal = Field(ge=0)


Passing = Literal["rate_limited", "timeout", "unavailable", "bad_reply", "exception"]


class Retries(Part):
    """How often a failed call is made again, and after which errors. Waits double from `base_s`, with full jitter."""

    attempts: int = Field(default=3, ge=1, le=10, description="The first call included")
    base_s: float = Field(default=0.5, gt=0, le=600)
    longest_s: float = Field(default=30, gt=0, le=3600)
    on: list[Passing] = ["rate_limited", "timeout", "unavailable"]


class ModelSpec(Part):
    provider: ProviderName
    name: str = Field(min_length=1, max_length=120)
    base_url: str | None = Field(default=None, description="Only for openai-compatible: http://127.0.0.1:11434/v1")
    api_key_variable: str | None = Field(default=None, description="Name of the environment variable with the key")
    parameters: dict[str, Any] = Field(default={}, description="temperature, max_tokens, top_p, seed, ...")
    timeout_s: float = Field(default=60, gt=0, le=600)
    price: Price | None = None
    retries: Retries | None = Field(default=None, description="Left out: max_model_attempts, after every passing error")

    @model_validator(mode="after")
    def _base_url_fits(self) -> ModelSpec:
        if (self.provider == "openai-compatible") != bool(self.base_url):
            raise ValueError(f"base_url belongs to provider openai-compatible, and only there (got {self.provider})")
        return self


Effect = Literal["read", "write", "egress", "destructive"]
Retry = Literal["read", "idempotent", "transactional", "unsafe"]
ArgumentClass = Literal["destination", "amount", "commitment", "target", "label", "content", "free"]


class AuthoredRows(Part):
    """Rows of a tool's output that the user wrote himself: every key of `where` has one of its values there.

    `$SELF` stands for the user's own identifiers.
    """

    where: dict[str, list[str]] = Field(min_length=1)
    fields: list[str] = Field(min_length=1, description="Fields of such a row that count as the user's own words")


class ToolManifest(Part):
    """What is known of a tool. Whatever is left out counts as the riskiest: egress, untrusted, unsafe to repeat."""

    name: Name
    description: str = Field(default="", max_length=4000)
    parameters: dict[str, Any] = Field(default={}, description="JSON schema of the arguments, as shown to the model")
    effect: Effect = "egress"
    output_trust: Literal["trusted", "untrusted"] = "untrusted"
    output_secret: bool = False
    retry: Retry = "unsafe"
    arguments: dict[str, ArgumentClass] = Field(
        default={}, description="Class of each argument; unnamed ones are sensitive"
    )
    scope: str = Field(default="", max_length=80, description="Scope the principal needs, e.g. refunds:write")
    timeout_s: float = Field(default=30, gt=0, le=3600)
    retries: Retries | None = Field(default=None, description="Left out: a failed call is not made again")
    verifies: bool = Field(default=False, description="It can be asked whether a call happened: tools.tool(verify=)")
    output_cap_bytes: int = Field(default=200_000, gt=0, le=50_000_000)
    is_retrieval: bool = False
    hands_off: bool = Field(default=False, description="A successful call ends the run as escalated")
    declines: bool = Field(default=False, description="A successful call ends the run as refused")
    moves_money: bool = False
    minted: list[str] = Field(default=[], description="Fields of the output with ids that the system makes")
    system: list[str] = Field(
        default=[], description="Fields that the system fills in: outsiders may cause rows, not write these freely"
    )
    authored: list[AuthoredRows] = []
    harmless: dict[str, list[str]] = Field(
        default={}, description="Values of an argument that need no source: {permission: [r]}"
    )
    labelled: bool = Field(default=True, description="False when nobody has reviewed these labels")
    server: str = Field(
        default="",
        max_length=40,
        exclude_if=lambda name: not name,
        description="The MCP server that offers it as <server>__<name>",
    )
    schema_digest: str = Field(
        default="",
        exclude_if=lambda digest: not digest,
        pattern=r"^([0-9a-f]{64})?$",
        description="SHA-256 of what was reviewed of it; the server must offer exactly that",
    )
    title: str = Field(
        default="", max_length=200, description="Sentence for people: Refund ${amount} for order {order_id}"
    )

    @model_validator(mode="after")
    def _retries_fit(self) -> ToolManifest:
        if self.retry == "unsafe" and self.retries is not None and self.retries.attempts > 1:
            raise ValueError(
                f"{self.name} is unsafe to repeat, so it cannot have {self.retries.attempts} attempts. "
                "Leave `retries` out, or make it idempotent or transactional."
            )
        return self

    @model_validator(mode="after")
    def _server_fits(self) -> ToolManifest:
        if bool(self.server) != bool(self.schema_digest):
            raise ValueError(f"{self.name}: `server` and `schema_digest` belong together; set both or none")
        if self.server and self.name.partition(SERVER_MARK)[0] != self.server:
            raise ValueError(f"{self.name}: a tool of MCP server {self.server} is called {self.server}{SERVER_MARK}...")
        if self.server and (self.verifies or self.retry == "transactional"):
            raise ValueError(f"{self.name}: a tool of an MCP server can neither be transactional nor verify")
        return self

    @cached_property
    def characters(self) -> int:
        """What a model reads of the tool in every call."""
        return len(self.name) + len(self.description) + len(canonical(self.parameters))

    @property
    def is_write(self) -> bool:
        return self.effect != "read"


class Budgets(Part):
    """Hard limits of one run. `max_seconds` is working time: waiting for a person does not count.

    `deadline_seconds` counts from the run's creation, waiting included.
    """

    max_steps: int = Field(default=40, gt=0, le=10_000)
    max_model_calls: int | None = Field(
        default=None, gt=0, le=10_000, description="Answered model calls; None: as many as steps"
    )
    max_tool_calls: int = Field(default=20, ge=0, le=5_000)
    max_tokens: int = Field(default=200_000, gt=0)
    max_cost_usd: Decimal = Field(default=Decimal("1.00"), ge=0)
    max_seconds: int = Field(default=600, gt=0, le=86_400)
    deadline_seconds: int | None = Field(default=None, gt=0, le=366 * 86_400)
    max_approvals: int = Field(default=5, ge=0, le=100)
    max_repeats: int = Field(
        default=3, gt=0, le=100, description="Identical calls, or rounds of the same few calls, before the loop guard"
    )
    max_model_attempts: int = Field(default=4, gt=0, le=20)


class DailyLimits(Part):
    """What may be used in one UTC day. None: no limit."""

    max_usd: Decimal | None = Field(default=None, ge=0, le=10_000_000)
    max_tokens: int | None = Field(default=None, ge=0, le=10**15)
    max_model_calls: int | None = Field(default=None, ge=0, le=10**12)
    max_tool_calls: int | None = Field(default=None, ge=0, le=10**12)
    max_runs: int | None = Field(default=None, ge=0, le=10**12)


class Daily(Part):
    """Budgets over all runs of a day: of the agent as a whole, and of each principal it works for."""

    per_principal: DailyLimits = DailyLimits()
    per_agent: DailyLimits = DailyLimits()


class Concurrency(Part):
    """How many runs may be at work at once; more are accepted and wait. None: no limit.

    At work is from its claim until it ends or waits for a person.
    """

    agent: int | None = Field(default=None, ge=1, le=100_000, description="All runs of the agent together")
    principal: int | None = Field(default=None, ge=1, le=100_000, description="Runs for one and the same principal")


class Condition(Part):
    """One comparison over the call's arguments: `amount gt 100`."""

    argument: str = Field(min_length=1, max_length=80)
    op: Literal["gt", "ge", "lt", "le", "eq", "ne", "in", "not_in", "present", "absent"]
    value: Any = None


class Rule(Part):
    """A policy rule of the operator: when every condition holds, allow, refuse or ask people.

    `when` is for the common cases, `condition` an expression in CEL; both must hold. Fields that came later are left
    out of the JSON while they have their default, so that the digest of an earlier release stays what it was.
    """

    id: Name
    version: str = Field(default="1", max_length=20)
    tool: Name
    when: list[Condition] = []
    condition: str = Field(
        default="", max_length=1000, exclude_if=lambda text: not text, description="CEL: args.amount > 100.0 && tainted"
    )
    then: Literal["allow", "ask", "refuse"]
    mode: Literal["enforce", "log"] = Field(
        default="enforce", exclude_if=lambda mode: mode == "enforce", description="log: only noted and counted"
    )
    reason: str = Field(min_length=1, max_length=500)
    risk: Literal["low", "medium", "high"] = "medium"
    due_minutes: int = Field(default=60, gt=0, le=60 * 24 * 14)
    four_eyes: bool = False
    approvals_needed: int = Field(
        default=1, ge=1, le=3, exclude_if=lambda count: count == 1, description="How many different people must approve"
    )
    ask_roles: list[Role] = Field(
        default=[], exclude_if=lambda roles: not roles, description="Who decides; left out: whoever may decide at all"
    )


Side = Literal["input", "retrieved", "arguments", "results", "output"]
Check = Literal[
    "length",
    "schema",
    "hidden_characters",
    "secrets",
    "personal_data",
    "injection",
    "citations",
    "forbidden_topics",
    "language",
    "banned_phrases",
    "grounded_figures",
    "model_graded",
]
Action = Literal["flag", "redact", "refuse", "ask", "stop", "escalate"]
Stance = Literal["act", "pass"]


class Guardrail(Part):
    """A check of a text that an operator configures: where, what is looked for, and what follows a finding.

    Which settings a check has, and what may follow on which side, is in releases.policies.guarding; it is asked when
    a release is created. Fields that came later are left out of the JSON while they have their default, so that the
    digest of an earlier release stays what it was.
    """

    id: Name
    version: str = Field(default="1", max_length=20)
    on: Side
    check: Check
    settings: dict[str, Any] = {}
    then: Action = "refuse"
    tools: list[Name] = Field(
        default=[], exclude_if=lambda names: not names, description="Calls of these tools only; left out: of all"
    )
    unchecked: Stance = Field(
        default="act",
        exclude_if=lambda stance: stance == "act",
        description="What an undecided check counts as: a finding, or none",
    )
    risk: Literal["low", "medium", "high"] = Field(
        default="medium", exclude_if=lambda risk: risk == "medium", description="Of the question that `ask` puts"
    )


class Verification(Part):
    """What the answer has to pass before it is given. The short forms `none` and `grounded_figures` are texts.

    After a first failure the model is told what was found and answers once more, if `retries` is 1; the short form
    has none. The next failure hands the conversation to a person.
    """

    kind: Literal["none", "grounded_figures", "code", "model"] = "none"
    name: Name | None = Field(default=None, description="Of a registered verifier; for code only")
    criteria: str = Field(default="", max_length=4000, description="What the second model judges by; for model only")
    model: ModelSpec | None = Field(default=None, description="The second model; left out: the release's own")
    retries: int = Field(default=1, ge=0, le=1)
    unchecked: Stance = Field(default="act", description="What counts when the verifier fails: a finding, or none")
    timeout_s: float = Field(default=10, gt=0, le=600)

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, given: Any) -> Any:
        return {"kind": given, "retries": 0} if isinstance(given, str) else given

    @model_validator(mode="after")
    def _parts_fit(self) -> Verification:
        if (self.kind == "code") != (self.name is not None):
            raise ValueError("name belongs to kind code, and only there: the name of a registered verifier")
        if (self.kind == "model") != bool(self.criteria.strip()):
            raise ValueError(
                "criteria belong to kind model, and only there: what the second model judges the answer by"
            )
        if self.kind != "model" and self.model is not None:
            raise ValueError("model belongs to kind model, and only there")
        return self

    @model_serializer(mode="wrap")
    def _in_short(self, whole: SerializerFunctionWrapHandler) -> Any:
        is_short = self.kind == "grounded_figures" and self == Verification(kind=self.kind, retries=0)
        return self.kind if self.kind == "none" or is_short else whole(self)

    @property
    def is_needed(self) -> bool:
        return self.kind != "none"


class Retrieval(Part):
    index: Name
    version: str = Field(max_length=40)


class RollbackOn(Part):
    unsafe_action_rate: Decimal | None = Field(default=Decimal("0.001"), ge=0, le=1)
    task_success_drop: Decimal | None = Field(default=Decimal("0.05"), ge=0, le=1)
    latency_increase: Decimal | None = Field(default=None, ge=0)
    cost_increase: Decimal | None = Field(default=None, ge=0)


class Bundle(Part):
    """An immutable release. What the worker loads is exactly this."""

    version: Name
    model: ModelSpec
    fallback_model: ModelSpec | None = None
    instructions: str = Field(max_length=100_000)
    tools: list[ToolManifest] = []
    write_tools_enabled: bool = True
    principal_scopes: dict[PrincipalKind, list[Annotated[str, Field(min_length=1, max_length=80)]]] = Field(
        default={}, description="Tool scopes that principals of a kind have at most; a kind left out: what they bring"
    )
    budgets: Budgets = Budgets()
    daily: Daily | None = None
    concurrency: Concurrency = Concurrency()
    rules: list[Rule] = []
    guardrails: list[Guardrail] = []
    retrieval: Retrieval | None = None
    memory_schema_version: int = Field(default=1, ge=1)
    force_human_review: bool = False
    provenance: Literal["enforce", "log"] = Field(
        default="enforce", description="What a call on nobody's word does: ask a person, or only be noted in the trace"
    )
    approval_minutes: int = Field(default=60, gt=0, le=60 * 24 * 14, description="Deadline of approvals without a rule")
    verification: Verification = Verification()
    code_revision: str = Field(default="", max_length=80)
    rollback_on: RollbackOn = RollbackOn()

    @model_validator(mode="after")
    def _names_fit(self) -> Bundle:
        names = [tool.name for tool in self.tools]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"tools are listed twice: {', '.join(twice)}")
        unknown = sorted({rule.tool for rule in self.rules} - set(names))
        if unknown:
            raise ValueError(f"rules name tools that the release does not have: {', '.join(unknown)}")
        return self

    @cached_property
    def characters(self) -> int:
        """What a model reads in every call besides the conversation: instructions and the schemas of the tools."""
        return len(self.instructions) + sum(tool.characters for tool in self.tools)

    @cached_property
    def rails(self) -> dict[Side, tuple[Guardrail, ...]]:
        """The guardrails of each side, in their order; a side without any is not in it."""
        found: dict[Side, tuple[Guardrail, ...]] = {}
        for rail in self.guardrails:
            found[rail.on] = (*found.get(rail.on, ()), rail)
        return found

    @cached_property
    def longest_step_s(self) -> float:
        """Seconds that one step of a run may take at most: the longest call, and every check of what came of it."""
        models = [self.model.timeout_s, *([self.fallback_model.timeout_s] if self.fallback_model else [])]
        checks = sum(float(rail.settings.get("timeout_s", 10)) for rail in self.guardrails)
        return max([*models, *(tool.timeout_s for tool in self.tools)]) + checks + self.verification.timeout_s

    @cached_property
    def toolset(self) -> dict[str, ToolManifest]:
        return {tool.name: tool for tool in self.tools}


CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def canonical(value: Any) -> str:
    """JSON with sorted keys and no spaces: the text that digests are taken over."""
    return CANONICAL.encode(value)


def digest(bundle: Bundle) -> str:
    """SHA-256 of the canonical bundle, hexadecimal."""
    return hashlib.sha256(canonical(bundle.model_dump(mode="json")).encode()).hexdigest()
