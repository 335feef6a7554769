"""G1 to G7: the product beside its peers, in interleaved rounds on one server, as a table in Markdown.

    PEERS_PYTHON=/opt/peers/bin/python python -m tests.benchmarks.beside_peers --rounds 3 --out found.jsonl
    python -m tests.benchmarks.beside_peers --table found.jsonl

PEERS_PYTHON is a Python with `psycopg[binary,pool] dbos langgraph langgraph-checkpoint-postgres`; the peers' scripts
are those of ../shared/bench/durable (PEERS_SCRIPTS names another folder). How much is measured: W1_RUNS, W2_RUNS,
W2_MORE, W3_RUNS, LEASE. QUIET is how many seconds a measurement waits for a quiet machine. Peers and product get
databases of their own on the same server. WAL, commits and the servers' CPU are counted around a peer's script, after a
warm-up that makes its tables; the product counts its own.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from console.embedded import servers
from tests.benchmarks import goals, ground

PYTHON_VARIABLE, SCRIPTS_VARIABLE = "PEERS_PYTHON", "PEERS_SCRIPTS"
SCRIPTS = servers.ROOT.parent / "shared" / "bench" / "durable"
NEEDS = "psycopg[binary,pool] dbos langgraph langgraph-checkpoint-postgres"
W1_RUNS = ground.knob("W1_RUNS", 300)
W2_RUNS = ground.knob("W2_RUNS", 500)
W2_MORE = ground.knob("W2_MORE", 2000)
W3_RUNS = ground.knob("W3_RUNS", 100)
QUIET_S = ground.knob("QUIET", 20)  # a measurement waits at most so long for a quiet machine
QUIET_RATIO = 0.85


@dataclass(frozen=True)
class Entry:
    """One measurement of a round. `script` is a peer's, or empty for the product."""

    name: str
    suite: str
    script: str = ""
    env: dict[str, str] = field(default_factory=dict)


def entries() -> list[Entry]:
    """In the order of a round: what is compared stands side by side."""
    one, sixteen, hundred = ({"RUNS": str(W1_RUNS), "CONC": str(conc)} for conc in (1, 16, 100))
    long = {"RUNS": str(max(1, W1_RUNS // 5)), "STEPS": "25", "CONC": "1"}
    many, more, kill = ({"RUNS": str(runs)} for runs in (W2_RUNS, W2_MORE, W3_RUNS))
    other = kill | {"OTHER": "1", "LEASE": str(goals.LEASE_S)}
    return [
        Entry("plain insert", "w1", "w1_raw.py commit10", one),
        Entry("dbos alone", "w1", "w1_dbos.py sync", one),
        Entry("steadyhand alone", "w1", env=one),
        Entry("langgraph alone", "w1", "w1_langgraph.py sync", one),
        Entry("steadyhand alone, 50 operations", "w1", env=long),
        Entry("dbos 16", "w1", "w1_dbos.py async", sixteen),
        Entry("steadyhand 16", "w1", env=sixteen),
        Entry("langgraph 16", "w1", "w1_langgraph.py async", sixteen),
        Entry("steadyhand 100", "w1", env=hundred),
        Entry("dbos many", "w2", "w2.py dbos", many),
        Entry("steadyhand many", "w2", env=many),
        Entry("langgraph many", "w2", "w2.py langgraph", many),
        Entry("steadyhand more", "w2", env=more),
        Entry("dbos killed", "w3", "w3.py dbos", kill),
        Entry("steadyhand killed", "w3", env=kill),
        Entry("langgraph killed", "w3", "w3.py langgraph", kill),
        Entry("steadyhand, another host", "w3", env=other),
        Entry("steadyhand, frozen and thawed", "w3", env=other | {"ZOMBIE": "1"}),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="w1,w2,w3")
    parser.add_argument("--out", type=Path, help="keep every measurement there, one JSON object per line")
    parser.add_argument("--table", type=Path, help="make the table from such a file, measure nothing")
    options = parser.parse_args()
    if options.table:
        print(goals.table([json.loads(line) for line in options.table.read_text().splitlines()]))
        return 0
    python, scripts = os.environ.get(PYTHON_VARIABLE, ""), Path(os.environ.get(SCRIPTS_VARIABLE) or SCRIPTS)
    missing = _missing(python, scripts)
    if missing:
        print(f"Not measured: {missing}", file=sys.stderr)
        return 0
    with ground.standing(), ground.own_database(f"peers_{os.getpid()}") as peers_url:
        bench = Bench(python, scripts, peers_url)
        found = []
        for one in bench.rounds(options.rounds, options.only.split(",")):
            found.append(one)
            print(json.dumps(one), file=sys.stderr, flush=True)
            if options.out:
                with options.out.open("a") as out:
                    out.write(json.dumps(one) + "\n")
    print(goals.table(found))
    return 0


def _missing(python: str, scripts: Path) -> str:
    if not scripts.is_dir():
        return f"the peers' scripts are not in {scripts}; name their folder in {SCRIPTS_VARIABLE}."
    if not python or not Path(python).exists():
        return f"{PYTHON_VARIABLE} names no Python with the peers in it (pip install {NEEDS})."
    return ""


class Bench:
    """Runs entries, each on the same server, and counts around those of peers."""

    def __init__(self, python: str, scripts: Path, peers_url: str) -> None:
        self.python = python
        self.scripts = scripts
        self.peers_url = peers_url

    def rounds(self, count: int, suites: Sequence[str]) -> Iterator[dict[str, Any]]:
        chosen = [entry for entry in entries() if entry.suite in suites]
        for entry in chosen:  # tables, caches, bytecode
            if entry.script and entry.suite != "w3":
                self._peer(entry, {"RUNS": "2", "SLEEP": "0.05"})
        for number in range(count):
            for entry in chosen:
                _wait_for_quiet()
                yield {"round": number, "entry": entry.name, "load": _load(), **self.once(entry)}

    def once(self, entry: Entry) -> dict[str, Any]:
        try:
            return self._counted(entry) if entry.script else self._ours(entry)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired, StopIteration) as broken:
            return {"failed": f"{type(broken).__name__}: {broken}"[:300]}

    def _ours(self, entry: Entry) -> dict[str, Any]:
        command = [sys.executable, str(ground.MANAGE), "bench", entry.suite.upper()]
        return _json_of(command, os.environ | entry.env)

    def _counted(self, entry: Entry) -> dict[str, Any]:
        from runtime.bench import meters

        before, cpu = meters.counters(of_server=True), meters.services_cpu_s()
        found = self._peer(entry, {})
        cpu_after = meters.services_cpu_s()
        time.sleep(1.2)  # sessions that have ended have reported what they committed
        after = meters.counters(of_server=True)
        return found | {
            "svc_cpu_s": None if cpu is None or cpu_after is None else round(cpu_after - cpu, 3),
            "wal_kb": round((after.wal_bytes - before.wal_bytes) / 1024, 1),
            "pg_commits": after.commits - before.commits,
        }

    def _peer(self, entry: Entry, more: dict[str, str]) -> dict[str, Any]:
        script, *arguments = entry.script.split()
        command = [self.python, str(self.scripts / script), *arguments]
        return _json_of(command, os.environ | {"DATABASE_URL": self.peers_url} | entry.env | more)


def _json_of(command: list[str], env: dict[str, str]) -> dict[str, Any]:
    done = subprocess.run(command, env=env, stdout=subprocess.PIPE, text=True, check=True, timeout=900)
    found: dict[str, Any] = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{")))
    return found


def _wait_for_quiet() -> None:
    end = time.monotonic() + QUIET_S
    while time.monotonic() < end:
        before = _idle()
        time.sleep(0.5)
        after = _idle()
        if after[0] - before[0] >= QUIET_RATIO * (after[1] - before[1]):
            return


def _idle() -> tuple[int, int]:
    """Idle and all ticks of the machine so far."""
    try:
        ticks = [int(tick) for tick in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    except OSError:
        return 0, 0
    return ticks[3] + ticks[4], sum(ticks)


def _load() -> float:
    return round(os.getloadavg()[0], 1)


if __name__ == "__main__":
    sys.exit(main())
