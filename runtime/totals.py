"""What a turn does about the totals of a day: nothing, unless a rule about the tool reads them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from releases.bundles import ToolManifest
from releases.policies.variables import Totals
from runtime import tallies
from runtime.policies import ruling
from runtime.policies.folding import Entry
from runtime.tallies import Holder, Key
from runtime.turns import Shell, Turn


async def seen(engine: Shell, turn: Turn, manifest: ToolManifest | None) -> Totals | None:
    """Today's totals of the tool, for the gate; None where no rule reads them."""
    if manifest is None or not are_read(turn, manifest):
        return None
    return await tallies.read(engine.pool, _key(turn, manifest))


async def hold(
    engine: Shell,
    turn: Turn,
    manifest: ToolManifest,
    arguments: Mapping[str, Any],
    step_id: UUID,
    totals: Totals | None,
    again: Entry | None,
) -> bool:
    """Count the call that is about to start. False: another was faster, so its verdict does not hold any more."""
    if totals is None:
        return True
    enforced = [rule for rule in turn.bundle.rules if rule.mode == "enforce"]
    holder = Holder(turn.run_id, turn.lease.fence, step_id, UUID(again.id) if again else None)
    scopes = ruling.totals_read(enforced, manifest.name)
    return await tallies.hold(engine.pool, _key(turn, manifest), holder, arguments, totals, scopes)


async def settle(engine: Shell, turn: Turn, manifest: ToolManifest, step_id: UUID) -> None:
    """The call was not made, or has failed for good: the journal says whether it counts."""
    if are_read(turn, manifest):
        await tallies.settle(engine.pool, step_id)


def are_read(turn: Turn, manifest: ToolManifest) -> bool:
    return bool(ruling.totals_read(turn.bundle.rules, manifest.name))


def _key(turn: Turn, manifest: ToolManifest) -> Key:
    return Key(turn.row["agent_id"], manifest, str(turn.row["principal_id"]))
