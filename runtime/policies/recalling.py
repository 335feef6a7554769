"""From the journal of a run to what it knows about the origin of values: see `provenance`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date

from releases.bundles import ToolManifest
from runtime.messages import Message, UserText
from runtime.policies import provenance, wording
from runtime.policies.folding import OURS, Entry
from runtime.policies.provenance import Knowledge, Labels
from runtime.states import StepKind, StepStatus, StepVerdict

UNKNOWN = Labels(is_labelled=False)  # a tool that the release does not have


def labels(manifest: ToolManifest) -> Labels:
    """What a tool is labelled with. A tool that nobody has reviewed counts as the riskiest, whatever its labels say."""
    if not manifest.labelled:
        return UNKNOWN
    return Labels(
        name=manifest.name,
        effect=manifest.effect,
        is_trusted=manifest.output_trust == "trusted",
        is_secret=manifest.output_secret,
        minted=tuple(manifest.minted),
        system=tuple(manifest.system),
        authored=tuple(
            provenance.Authored({name: tuple(wanted) for name, wanted in rows.where.items()}, tuple(rows.fields))
            for rows in manifest.authored
        ),
        arguments=manifest.arguments,
        harmless={name: tuple(accepted) for name, accepted in manifest.harmless.items()},
    )


def begin(told: Iterable[Message], *, own: str, is_tainted: bool, today: date | None = None) -> Knowledge:
    """What a run knows before its first step: what the user said earlier in the thread, and whether that is tainted."""
    known = Knowledge(own=frozenset({wording.fold(own)}), today=today)
    for message in told:
        if isinstance(message, UserText):
            known.hear(message.text)
    if is_tainted:
        known.taint()
    return known


def recall(known: Knowledge, tools: Mapping[str, Labels], entry: Entry) -> None:
    """Take in one entry of the journal: the user's words, or what became of a call."""
    if entry.kind == StepKind.INPUT:
        known.hear(str(entry.output["text"]))
    elif entry.kind in (StepKind.TOOL, StepKind.RETRIEVAL):
        _recall_call(known, tools.get(entry.name, UNKNOWN), entry)
    elif entry.kind == StepKind.GUARDRAIL:
        if entry.output.get("tainted"):
            known.taint()
        if entry.call_id and entry.verdict == StepVerdict.REFUSED:
            known.called(entry.input.get("call"))


def _recall_call(known: Knowledge, of: Labels, entry: Entry) -> None:
    arguments = entry.input.get("arguments")
    if entry.status == StepStatus.DONE:
        result = entry.output.get("result", entry.output.get("content"))
        known.read(entry.seq, of, arguments, result, tool=entry.name)
        if entry.output.get("tainted"):
            known.taint_by(entry.seq, entry.name)
    elif entry.status == StepStatus.FAILED:
        known.called(arguments)
        if not of.is_trusted and not entry.output.get(OURS):
            known.taint_by(entry.seq, entry.name)
