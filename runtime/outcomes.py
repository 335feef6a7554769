"""What is written of a call that has ended: its result, its failure, or that nobody knows."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from console import redact
from releases.bundles import ToolManifest
from runtime import (
    toolbox,
)
from runtime.journal import Finished
from runtime.policies import folding
from runtime.policies.folding import Entry
from runtime.states import StepStatus
from runtime.turns import Turn


def unknown(entry: Entry) -> Finished:
    """The mark of a call that may or may not have happened."""
    return Finished(UUID(entry.id), StepStatus.UNKNOWN, None, summary="It is not known whether this happened.")


def broken_off(turn: Turn, entry: Entry) -> Finished:
    """What is known of a call that was under way when its run was cancelled."""
    manifest = turn.bundle.toolset.get(entry.name)
    if manifest is None or manifest.retry not in ("read", "transactional"):
        return unknown(entry)
    certain = "It changes nothing." if manifest.retry == "read" else "Its effect commits with its result: none."
    text = f"Let go of when the run was cancelled. {certain}"
    return failed(entry, folding.BROKEN_OFF, text, text)


def not_begun(entry: Entry) -> Finished:
    text = "The run was cancelled before the call was made."
    return failed(entry, folding.BROKEN_OFF, text, text)


def taints(manifest: ToolManifest, finished: Finished) -> bool:
    """Whether who reads this is tainted. An error is read like a result, and says what its author wants it to say."""
    if finished.status == StepStatus.FAILED and finished.output.get(folding.OURS):
        return False
    return manifest.output_trust == "untrusted" or bool(finished.output.get("tainted"))


def succeeded(manifest: ToolManifest, entry: Entry, value: Any) -> Finished:
    kept = toolbox.output(manifest, value, str(entry.input["arguments"].get("reason", "")))
    return Finished(
        UUID(entry.id), StepStatus.DONE, datetime.now(UTC), summary=toolbox.phrase(manifest, kept), output=kept
    )


def failed(entry: Entry, code: str, summary: str, content: str) -> Finished:
    return Finished(
        UUID(entry.id),
        StepStatus.FAILED,
        datetime.now(UTC),
        summary=summary,
        error=redact.text(code),
        output={"content": content, "error": summary},
    )


def never_begun(entry: Entry, why: str) -> Finished:
    """An unsafe call of which it is certain that it was not begun, and will not be. `why` are words of ours."""
    done = failed(entry, folding.NOT_BEGUN, why, f"The call was not made. {why}")
    return replace(done, output={**done.output, folding.OURS: True})


def late(manifest: ToolManifest, entry: Entry, *, was_begun: bool) -> Finished:
    if not was_begun:
        return never_begun(entry, f"It could not be begun within {manifest.timeout_s:g} s.")
    if manifest.retry == "unsafe":
        return unknown(entry)
    text = f"No result within {manifest.timeout_s:g} s."
    return failed(entry, "timeout", text, f"The tool did not answer. {text}")


def broken(manifest: ToolManifest, entry: Entry, broken: Exception, *, was_begun: bool) -> Finished:
    """Only a ToolError says that nothing happened; from an unsafe tool any other exception leaves it open, unless it
    came before the call.
    """
    if not was_begun:
        return never_begun(entry, f"It could not be begun ({type(broken).__name__}).")
    if manifest.retry == "unsafe":
        return unknown(entry)
    text = f"{type(broken).__name__}: {broken}"[:300]
    return failed(entry, "exception", text, f"The tool failed ({type(broken).__name__}).")


def stopped(entry: Entry, why: str) -> Finished:
    return failed(entry, "kill_switch", why, f"The call was not made again. {why}")
