"""What changed between two bundles, in words."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from releases.bundles import Bundle, Guardrail, ModelSpec, Part, Rule, ToolManifest
from releases.policies import sentences

P = TypeVar("P", bound=Part)


@dataclass(frozen=True)
class Change:
    """`kind` is added, removed or changed; `before` and `after` are empty where there is nothing to set against."""

    area: str
    kind: str
    text: str
    before: str = ""
    after: str = ""


def changes(before: Bundle, after: Bundle) -> list[Change]:
    """Every difference but the version label; the instructions are only counted, a line difference shows them."""
    return [
        *_instructions(before, after),
        *_models(before, after),
        *_named("Tools", _by_name(before), _by_name(after), sentences.tool),
        *_named("Rules", _by_id(before.rules), _by_id(after.rules), sentences.rule),
        *_named("Guardrails", _by_id(before.guardrails), _by_id(after.guardrails), sentences.guardrail),
        *_values("Budgets", dict(sentences.budgets(before.budgets)), dict(sentences.budgets(after.budgets))),
        *_values("Daily budgets", dict(sentences.daily(before.daily)), dict(sentences.daily(after.daily))),
        *_values("Settings", dict(sentences.extras(before)), dict(sentences.extras(after))),
        *_values("Rolls back on", _rollback(before), _rollback(after)),
    ]


def _instructions(before: Bundle, after: Bundle) -> Iterator[Change]:
    if before.instructions != after.instructions:
        old, new = before.instructions.splitlines(), after.instructions.splitlines()
        yield Change("Instructions", "changed", f"{len(old)} lines became {len(new)}")


def _models(before: Bundle, after: Bundle) -> Iterator[Change]:
    yield from _model("Main model", before.model, after.model)
    yield from _model("Fallback model", before.fallback_model, after.fallback_model)


def _model(label: str, before: ModelSpec | None, after: ModelSpec | None) -> Iterator[Change]:
    if before == after:
        return
    old, new = (sentences.model(spec) if spec else "none" for spec in (before, after))
    if old == new:
        # Same words: what differs is one of the fields that the sentence leaves out.
        old, new = (_rest(spec) for spec in (before, after))
    yield Change("Model", "changed", label, old, new)


def _rest(spec: ModelSpec | None) -> str:
    fields = spec.model_dump(exclude={"name", "provider", "parameters", "base_url"}) if spec else {}
    return ", ".join(f"{name} {sentences.value(value)}" for name, value in fields.items())


def _named(area: str, before: Mapping[str, P], after: Mapping[str, P], say: Callable[[P], str]) -> Iterator[Change]:
    for name in sorted(set(before) | set(after)):
        old, new = before.get(name), after.get(name)
        if old is None and new is not None:
            yield Change(area, "added", name, "", say(new))
        elif new is None and old is not None:
            yield Change(area, "removed", name, say(old), "")
        elif old is not None and new is not None and old != new:
            words = (say(old), say(new))
            yield Change(area, "changed", name, *(words if words[0] != words[1] else _fields(old, new)))


def _fields(old: Part, new: Part) -> tuple[str, str]:
    """The differing fields by name, where the sentences do not tell them."""
    a, b = old.model_dump(mode="json"), new.model_dump(mode="json")
    names = [name for name in {**a, **b} if a.get(name) != b.get(name)]
    return _listed(names, a), _listed(names, b)


def _listed(names: list[str], fields: Mapping[str, Any]) -> str:
    return "; ".join(f"{name}: {_short(fields.get(name))}" for name in names)


def _short(value: Any) -> str:
    text = sentences.value(value)
    return text if len(text) <= 200 else f"{text[:200]}…"


def _values(area: str, before: Mapping[str, str], after: Mapping[str, str]) -> Iterator[Change]:
    for label in before:
        if before[label] != after[label]:
            yield Change(area, "changed", f"{label[:1].upper()}{label[1:]}", before[label], after[label])


def _rollback(bundle: Bundle) -> dict[str, str]:
    fields = bundle.rollback_on.model_dump(mode="json")
    return {name.replace("_", " "): sentences.value(value) for name, value in fields.items()}


def _by_name(bundle: Bundle) -> dict[str, ToolManifest]:
    return bundle.toolset


def _by_id(parts: list[Rule] | list[Guardrail]) -> dict[str, Any]:
    return {part.id: part for part in parts}
