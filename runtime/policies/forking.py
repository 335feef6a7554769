"""What of a run's journal a fork takes over: everything before a step that is certain, and nothing to be done again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from runtime.policies import folding
from runtime.policies.folding import Entry
from runtime.states import StepKind, StepStatus, StepVerdict

CALLS = frozenset({StepKind.TOOL, StepKind.RETRIEVAL})
KNOWN = frozenset({StepStatus.DONE, StepStatus.FAILED, StepStatus.REFUSED})
# A call of these classes that was broken off left nothing behind, so the fork may make it afresh.
TRACELESS = frozenset({"read", "transactional"})


def decide_kept(entries: Sequence[Entry], at: int, *, retries: Mapping[str, str], is_same_release: bool) -> list[Entry]:
    """The entries before the step at `at` that the fork begins with, in order.

    A call without a known result is judged again, and a person asked about it is asked again: the question and the
    decision stay behind. Where the call may have happened (`retries` maps a tool to its effect class) its entry goes
    along, so that a person settles it first. Failed attempts of the model right before the step are tried again, and
    so are the last words when the step is the run's end. Another release checks the input with its own guardrails.
    """
    step = next(entry for entry in entries if entry.seq == at)
    kept = [entry for entry in entries if entry.seq < at and entry.kind != StepKind.ANSWER]
    if step.kind == StepKind.ANSWER:
        kept = _before_the_last_words(kept)
    open_calls = _open_calls(kept)
    kept = [entry for entry in kept if entry.call_id not in open_calls or _stays(entry, retries)]
    kept = [entry for entry in kept if not _is_open_question(entry)]
    while kept and kept[-1].kind == StepKind.MODEL and kept[-1].status == StepStatus.FAILED:
        kept.pop()
    return kept if is_same_release else [entry for entry in kept if not _is_input_check(entry)]


def _before_the_last_words(kept: list[Entry]) -> list[Entry]:
    """Without the reply, or the guardrail's refusal, that the run was about to end with."""
    state, cut = folding.begin(), len(kept)
    for place, entry in enumerate(kept):
        before, state = state.answer, folding.step(state, entry)
        if before is None:
            cut = len(kept) if state.answer is None else place
    return kept[:cut]


def _open_calls(kept: Sequence[Entry]) -> frozenset[str]:
    """The calls of the last answered model call that have no known outcome among these entries."""
    proposed: set[str] = set()
    for entry in kept:
        if entry.kind == StepKind.MODEL and entry.status == StepStatus.DONE:
            proposed = {str(call["id"]) for call in entry.output.get("calls", [])}
        elif _is_outcome(entry):
            proposed.discard(entry.call_id)
    return frozenset(proposed)


def _is_outcome(entry: Entry) -> bool:
    if entry.kind in CALLS:
        return entry.status in KNOWN and not entry.output.get("again")
    if entry.kind == StepKind.GUARDRAIL:
        return entry.verdict == StepVerdict.REFUSED and not _is_about_arguments(entry)
    return entry.kind == StepKind.APPROVAL and entry.verdict in (StepVerdict.REJECTED, StepVerdict.EXPIRED)


def _stays(entry: Entry, retries: Mapping[str, str]) -> bool:
    """Of an open call: what may have happened, and what guardrails have said of the proposal itself."""
    return _may_have_happened(entry, retries) or _is_about_arguments(entry)


def _is_about_arguments(entry: Entry) -> bool:
    return entry.kind == StepKind.GUARDRAIL and entry.input.get("on") == "arguments"


def _may_have_happened(entry: Entry, retries: Mapping[str, str]) -> bool:
    return entry.kind in CALLS and retries.get(entry.name, "unsafe") not in TRACELESS


def _is_open_question(entry: Entry) -> bool:
    return entry.kind == StepKind.APPROVAL and entry.status == StepStatus.STARTED


def _is_input_check(entry: Entry) -> bool:
    return entry.kind == StepKind.GUARDRAIL and not entry.call_id and entry.input.get("on") == "input"
