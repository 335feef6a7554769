"""One measurement from its checks to the removal of what it made."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from typing import Any

from django.utils.timezone import now

from console import environment
from runtime.bench import knobs, meters, recovery, throughput
from runtime.bench.knobs import Knobs, Refused
from runtime.bench.loads import Load
from runtime.models import Run, Worker
from runtime.states import RunStatus

WORKLOADS: dict[str, Callable[[Knobs, Load], dict[str, Any]]] = {
    "W1": throughput.w1,
    "W2": throughput.w2,
    "W3": recovery.w3,
}


def run(workload: str, *, keep: bool = False) -> dict[str, Any]:
    """Measure once. The keys are those of the peers' scripts, and some more.

    Raises:
        Refused: it cannot be measured here; nothing was changed.
        RuntimeError: the load did not end as it should.
    """
    wanted = knobs.read(workload)
    meters.require_durable()
    require_quiet()
    load = Load(wanted)
    try:
        measured = WORKLOADS[workload](wanted, load)
    finally:
        if not keep:
            load.remove()
    return {"workload": workload, "peer": "steadyhand", "version": _version(), "runs": wanted.runs, **measured}


def require_quiet() -> None:
    """Measure only where nobody works: another worker would take the load, and ours would take somebody else's runs.

    Raises:
        Refused: there is a worker, or there are runs that wait for one.
    """
    alive = Worker.objects.filter(ended_at__isnull=True, lease_until__gt=now()).first()
    if alive is not None:
        raise Refused(
            f"The worker {alive} uses this database and would take part. Stop it, or name an empty database in"
            " DATABASE_URL."
        )
    others = Run.objects.filter(status__in=[RunStatus.QUEUED, RunStatus.RUNNING]).count()
    if others:
        raise Refused(
            f"{others:,} runs wait for a worker here, and the measurement would execute them. Let them end first, or"
            " name an empty database in DATABASE_URL."
        )


def _version() -> str:
    with (environment.ROOT / "pyproject.toml").open("rb") as file:
        return str(tomllib.load(file)["project"]["version"])
