"""The measured worker: `manage.py worker` in a process of its own, as in production."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from console import environment
from runtime.bench import scenes
from runtime.bench.knobs import Knobs

MANAGE = environment.ROOT / "manage.py"
START_S = 180.0
STOP_S = 45.0
MOST_AT_ONCE = 5000  # what the setting allows


class Life:
    """One worker process. `began` and `ready_at` are seconds since the epoch."""

    def __init__(self, slot: str, knobs: Knobs) -> None:
        self.slot = slot
        self.knobs = knobs
        self.out = Path(tempfile.mkdtemp(prefix="steadyhand-bench-")) / "gaps.json"
        self.began = time.time()
        self.ready_at: float | None = None
        self._is_ready = threading.Event()
        self.process = subprocess.Popen(
            [sys.executable, str(MANAGE), "worker", "--slot", slot],
            env=os.environ | self._variables(),
            stdout=subprocess.PIPE,
            text=True,
        )
        threading.Thread(target=self._listen, daemon=True).start()

    @property
    def pid(self) -> int:
        return self.process.pid

    def wait_until_ready(self) -> float:
        """When it said that it is ready.

        Raises:
            RuntimeError: it ended, or did not become ready in time.
        """
        if not self._is_ready.wait(START_S) or self.ready_at is None:
            self.kill()
            raise RuntimeError(f"The worker did not become ready within {START_S:.0f} s; its messages stand above.")
        return self.ready_at

    def stop(self) -> None:
        """End it in order, as a deployment does."""
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End it at once, as a crash does; harmless when it has ended."""
        self.process.kill()
        self.process.wait()

    def freeze(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def gaps_s(self) -> list[float]:
        """The gaps between the bodies of its runs, in seconds and ascending; it leaves them when it ends."""
        return sorted(json.loads(self.out.read_text())) if self.out.exists() else []

    def _variables(self) -> dict[str, str]:
        modules = [*environment.load().steadyhand_tools, scenes.__name__]
        return {
            "STEADYHAND_TOOLS": json.dumps(modules),
            scenes.OUT_VARIABLE: str(self.out),
            scenes.WORKLOAD_VARIABLE: self.knobs.workload,
            "STEADYHAND_TURNS_AT_ONCE": str(min(self.knobs.conc, MOST_AT_ONCE)),
            "PYTHONUNBUFFERED": "1",
        }

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if self.ready_at is None and "is ready" in line:
                self.ready_at = time.time()
                self._is_ready.set()
        self._is_ready.set()
