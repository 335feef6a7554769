"""A worker process with an error of ours: one write is never answered, so that its turn would wait for ever.

`python -m tests.runtime.forgetful_worker` on the servers of the environment; the arguments are those of `worker`.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

NAME = "tests.runtime.forgetful_worker"
FORGOTTEN = 2  # the write that is forgotten, from 1
STEP_S = 4.0  # longer than `worker.HELD_BY_MISTAKE`: what was taken later than that is not released
forgotten: set[Any] = set()  # the lease of that write: on a slow machine, others may stand still for as long


def main() -> None:
    import django

    django.setup()
    from django.core.management import call_command

    from releases.bundles import Bundle
    from runtime import turns
    from runtime.committing import Committer

    Bundle.longest_step_s, turns.STANDSTILL_S = STEP_S, 0  # type: ignore[assignment]
    write, count, stands_still = Committer.write, 0, turns.Turn.stands_still.fget

    async def forget(self: Committer, operation: Any) -> Any:
        nonlocal count
        count += 1
        if count == FORGOTTEN:
            forgotten.add(operation.lease)
            await asyncio.Future()
        return await write(self, operation)

    Committer.write = forget  # type: ignore[method-assign]
    turns.Turn.stands_still = property(  # type: ignore[assignment]
        lambda turn: turn.lease in forgotten and stands_still(turn)
    )
    call_command("worker", *sys.argv[1:])


if __name__ == "__main__":
    main()
