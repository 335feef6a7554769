"""G15: from `up` to the first page, and from the start of a worker until it takes runs.

    python -m tests.benchmarks.start_up          ROUNDS=3

`up` runs in an empty folder first (it makes a database and the demo), then again in the same one. The packages are
installed already.
"""

from __future__ import annotations

import http.client
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from console.embedded import ports, servers
from tests.benchmarks import ground

ROUNDS = ground.knob("ROUNDS", 3)


def main() -> None:
    first, again = _up()
    with ground.standing() as folder:
        worker = [_worker(folder, n) for n in range(ROUNDS + 1)][1:]
    ground.emit(
        benchmark="start_up",
        rounds=ROUNDS,
        up_first_page_new_s=ground.median(first),
        up_first_page_again_s=ground.median(again),
        worker_ready_s=ground.median(worker),
        worker_ready_most_s=round(max(worker), 4),
    )


def _worker(folder: Path, number: int) -> float:
    worker = ground.Process(folder, "worker", "--slot", f"start-{number}", says="is ready")
    try:
        return worker.wait_until_said()
    finally:
        worker.stop()


def _up() -> tuple[list[float], list[float]]:
    """Seconds to the first page in a new folder, and in one that has been used."""
    first, again = [], []
    for _ in range(ROUNDS):
        folder = Path(tempfile.mkdtemp(prefix="steadyhand-benchmark-"))
        try:
            first.append(_first_page(folder))
            again.append(_first_page(folder))
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    return first, again


def _first_page(folder: Path) -> float:
    without: dict[str, Any] = dict.fromkeys((servers.DATABASE_VARIABLE, servers.REDIS_VARIABLE), "")
    port = ports.pick()
    up = ground.Process(folder, "up", "--port", str(port), **without, STEADYHAND_DATA_DIR=str(folder / "data"))
    try:
        ground.until(lambda: _answers(port), 300, every=0.02)
        return time.monotonic() - up.began
    finally:
        up.stop()


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection(ports.LOOPBACK, port, timeout=30)
    try:
        connection.request("GET", "/accounts/login/")
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


if __name__ == "__main__":
    main()
