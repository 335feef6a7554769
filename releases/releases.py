"""The verbs of agents and releases: register, create, activate."""

from __future__ import annotations

from uuid import UUID

from django.db import transaction
from pydantic import ValidationError

from console import audit, live, problems, redact
from console.actors import Actor
from console.models import User
from releases import bundles, labels
from releases.models import Activation, Agent, Release
from releases.policies import guarding, labelling, rulecheck


@transaction.atomic
def register_agent(slug: str, name: str, *, by: Actor, owner: User | None = None, description: str = "") -> Agent:
    """Make an agent known. Registering it again changes nothing."""
    agent, made = Agent.objects.get_or_create(
        slug=slug, defaults={"name": name, "owner": owner, "description": description}
    )
    if made:
        audit.record(by, "agent.register", agent, reason=description or "New agent.")
    return agent


@transaction.atomic
def create(agent: Agent, content: object, *, by: Actor, note: str = "") -> Release:
    """Store a bundle. The same content again returns the release that has it.

    Raises:
        problems.Forbidden: this actor may not create releases of this agent.
        problems.Invalid: the bundle breaks its schema; names each place and rule.
        problems.Conflict: the version label is taken by other content.
    """
    if not by.may("releases.create", agent=agent.slug):
        raise problems.Forbidden(f"You may not create releases of {agent.name}. Ask its owner.")
    bundle = _validated(content)
    agent = _held(agent.pk)  # two equal bundles at once make one release
    digest = bundles.digest(bundle)
    standing = Release.objects.filter(agent=agent, digest=digest).first()
    if standing:
        return standing
    if Release.objects.filter(agent=agent, version=bundle.version).exists():
        raise problems.Conflict(
            f"{agent.name} already has a release {bundle.version} with other content. Releases never change: "
            "choose a new version label."
        )
    release = Release(
        agent=agent,
        version=bundle.version,
        digest=digest,
        content=bundle.model_dump(mode="json"),
        note=note,
        created_by_id=by.id,
        created_by_label=by.label,
    )
    labels.declare(release)
    release.save(force_insert=True)
    changed = labelling.summary(labels.standing(release).changes)
    changes = {"digest": [None, digest], "label changes": [None, changed]}
    audit.record(by, "release.create", release, reason=note or "New release.", changes=changes)
    live.announce("releases")
    return release


@transaction.atomic
def activate(release_id: UUID, *, by: Actor, reason: str) -> Release:
    """Let a release answer all new runs of its agent. Runs in flight keep theirs. Repeating it is harmless.

    Raises:
        Release.DoesNotExist: no such release.
        problems.Forbidden: this actor may not change the active release.
        problems.Invalid: the reason is missing, a change of labels waits for its review, or all three of the Rule of
            Two come together and nobody would be asked.
    """
    release = Release.objects.get(pk=release_id)
    agent = release.agent = _held(release.agent_id)
    if not by.may("releases.activate", agent=agent.slug):
        raise problems.Forbidden(_not_yours(agent))
    if agent.active_release_id == release.pk:
        return release
    if not reason.strip():
        raise problems.Invalid(
            "Say why this release should answer; it goes to the audit log.", errors={"reason": "Say why."}
        )
    if why := _unfit(release):
        raise problems.Invalid(why)
    reason = redact.text(reason.strip())

    previous = agent.active_release
    agent.active_release = release
    agent.save(update_fields=["active_release"])
    Activation.objects.create(agent=agent, release=release, previous=previous, by_label=by.label, reason=reason)
    changes = {"active release": [previous.version if previous else None, release.version]}
    audit.record(by, "release.activate", release, reason=reason, changes=changes)
    live.announce("releases")
    return release


def why_not(release: Release, *, by: Actor) -> str:
    """Why this actor cannot make the release active now; empty when nothing stands in the way."""
    if not by.may("releases.activate", agent=release.agent.slug):
        return _not_yours(release.agent)
    if release.agent.active_release_id == release.pk:
        return "This release is active: it answers all new runs."
    return _unfit(release)


def _not_yours(agent: Agent) -> str:
    return f"You may not change the active release of {agent.name}. Ask an operator."


def _unfit(release: Release) -> str:
    """Why nobody may make the release active, whoever asks; empty when it is fit."""
    if why := labels.why_not(release):
        return why
    if release.exposure.is_open:
        return (
            f"Release {release.version} reads what outsiders write, sees private data and acts, and its provenance is "
            "`log`: nobody would be asked. Set `provenance` to `enforce`, or `force_human_review`, in a new release."
        )
    return ""


def _held(agent_id: UUID) -> Agent:
    """The agent, locked: which release is active does not change meanwhile."""
    return Agent.objects.select_for_update(of=("self",)).select_related("active_release").get(pk=agent_id)


# What the validation says in the words of programs, in those of people.
WRONG = {
    "missing": "This field is required.",
    "extra_forbidden": "There is no such field. Check its spelling or leave it out.",
    "model_type": "An object in braces belongs here.",
    "model_attributes_type": "An object in braces belongs here.",
    "dict_type": "An object in braces belongs here.",
    "list_type": "A list in brackets belongs here.",
}


def _validated(content: object) -> bundles.Bundle:
    try:
        bundle = bundles.Bundle.model_validate(content)
    except ValidationError as wrong:
        errors = {".".join(map(str, e["loc"])) or "bundle": WRONG.get(e["type"], e["msg"]) for e in wrong.errors()}
        raise problems.Invalid("The bundle cannot be used.", errors=errors) from wrong
    if errors := guarding.mistakes(bundle):
        raise problems.Invalid("The bundle’s guardrails cannot be used.", errors=errors)
    if errors := rulecheck.faults(bundle):
        raise problems.Invalid("The bundle’s rules cannot be used.", errors=errors)
    return bundle
