"""The rules of a release with one more, or one changed: always a new release."""

from __future__ import annotations

from pydantic import ValidationError

from console import problems
from console.actors import Actor
from releases import releases
from releases.bundles import Bundle, Rule
from releases.models import Release
from releases.policies import rulecheck

SAID = {
    "missing": "This field is required.",
    "string_too_short": "This field is required.",
    "string_pattern_mismatch": "Letters, digits, dots, dashes and underscores, and a letter or digit first.",
    "extra_forbidden": "There is no such field. Check its spelling or leave it out.",
}


def rule_of(content: object, bundle: Bundle) -> Rule:
    """A rule for this bundle, checked whole: its schema, its tool, and its expression against that tool.

    Raises:
        problems.Invalid: names each field and what is wrong with it.
    """
    try:
        rule = Rule.model_validate(content)
    except ValidationError as wrong:
        errors = {".".join(map(str, e["loc"])) or "rule": SAID.get(e["type"], e["msg"]) for e in wrong.errors()}
        raise problems.Invalid("This rule cannot be used.", errors=errors) from wrong
    tool = bundle.toolset.get(rule.tool)
    if tool is None:
        known = ", ".join(sorted(bundle.toolset)) or "none"
        said = f"The release has no tool {rule.tool}. It has: {known}."
        raise problems.Invalid("This rule cannot be used.", errors={"tool": said})
    if errors := rulecheck.of_rule(rule, tool):
        raise problems.Invalid("This rule cannot be used.", errors=errors)
    return rule


def with_rule(release: Release, rule: Rule, *, version: str, by: Actor, note: str = "") -> Release:
    """A new release that is this one with the rule. A rule of the same id gives way to it. It answers no runs yet.

    Raises:
        problems.Forbidden, problems.Invalid, problems.Conflict: as `releases.create` says.
    """
    rules = release.bundle.rules
    kept = [rule if one.id == rule.id else one for one in rules]
    is_new = all(one.id != rule.id for one in rules)
    content = release.bundle.model_dump(mode="json")
    content["version"] = version
    content["rules"] = [one.model_dump(mode="json") for one in (*kept, *([rule] if is_new else []))]
    said = f"{release.version} with rule {rule.id} {'added' if is_new else 'changed'}."
    return releases.create(release.agent, content, by=by, note=note.strip() or said)
