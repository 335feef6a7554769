"""The table of goals G1 to G8 from what `beside_peers` measured."""

from __future__ import annotations

import datetime as dt
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tests.benchmarks import ground

LEASE_S = ground.knob("LEASE", 12)
CPU = ("client_cpu_s", "svc_cpu_s")
PEERS = {"dbos": "DBOS", "langgraph": "LangGraph"}


def table(found: Sequence[dict[str, Any]]) -> str:
    """Medians over the rounds and the goals they are held against."""
    measured = Medians(found)
    today = dt.datetime.now(dt.UTC).date()
    when = f"{today}, {_machine()}; medians of {measured.rounds} interleaved rounds; load average {measured.loads}."
    head = ["| goal | what | goal is | measured | reached |", "|---|---|---|---|---|"]
    rows = [*_time(measured), *_database(measured), *_many(measured), *_killed(measured), *_effects(measured)]
    return "\n".join([when, "", *head, *(row.line() for row in rows)])


class Medians:
    def __init__(self, found: Sequence[dict[str, Any]]) -> None:
        self.good = [one for one in found if "failed" not in one]
        self.rounds = 1 + max((one["round"] for one in found), default=0)
        loads = sorted(one["load"] for one in found)
        self.loads = f"{loads[0]} to {loads[-1]}" if loads else "unknown"

    def of(self, entry: str, key: str) -> float | None:
        values = [one[key] for one in self.good if one["entry"] == entry and one.get(key) is not None]
        return ground.median(values) if values else None

    def best(self, key: str, *entries: str) -> float | None:
        return max((value for entry in entries if (value := self.of(entry, key)) is not None), default=None)

    def peers(self, what: str, key: str) -> str:
        return ", ".join(f"{name} {_n(self.of(f'{peer} {what}', key))}" for peer, name in PEERS.items())

    def runs(self, entry: str) -> str:
        return next((f"{one['runs']:,}" for one in self.good if one["entry"] == entry), "?")

    def per_operation(self, entry: str, *keys: str, factor: float = 1) -> float | None:
        """The sum of these keys per durable operation of the entry."""
        one = next((one for one in self.good if one["entry"] == entry), None)
        values = [self.of(entry, key) for key in keys]
        known = [value for value in values if value is not None]
        if one is None or not known:
            return None
        return factor * sum(known) / (one["runs"] * 2 * one["steps"])


@dataclass(frozen=True)
class Row:
    goal: str
    what: str
    wanted: str
    value: float | None
    most: float | None = None
    least: float | None = None
    told: str = ""
    unit: str = "x"

    def line(self) -> str:
        if self.value is None:
            return f"| {self.goal} | {self.what} | {self.wanted} | not measured | |"
        is_reached = (self.most is None or self.value <= self.most) and (self.least is None or self.value >= self.least)
        measured = f"{self.value:.3g}{self.unit}" + (f" ({self.told})" if self.told else "")
        return f"| {self.goal} | {self.what} | {self.wanted} | {measured} | {'yes' if is_reached else '**no**'} |"


def _time(m: Medians) -> list[Row]:
    step, dbos = m.of("steadyhand alone", "step_ms_p50"), m.of("dbos alone", "step_ms_p50")
    rate, better = m.of("steadyhand 16", "runs_per_s"), m.best("runs_per_s", "dbos 16", "langgraph 16")
    rows = [
        Row("G1", "durable step p50, one run at a time, beside DBOS", "<= 0.40x", _ratio(step, dbos), most=0.40,
            told=f"{_n(step)} ms; {m.peers('alone', 'step_ms_p50')}"),
        Row("G2", "runs/s at 16 in flight, beside the better peer", ">= 8x", _ratio(rate, better), least=8,
            told=f"{_n(rate)}; {m.peers('16', 'runs_per_s')}"),
    ]  # fmt: skip
    for conc in ("alone", "16"):
        ours, theirs = (m.per_operation(f"{who} {conc}", *CPU, factor=1000) for who in ("steadyhand", "dbos"))
        rows.append(
            Row("G3", f"CPU per operation, {conc}, beside DBOS", "<= 0.35x", _ratio(ours, theirs), most=0.35,
                told=f"{_n(ours)} ms; DBOS {_n(theirs)}")
        )  # fmt: skip
    return rows


def _database(m: Medians) -> list[Row]:
    own, plain = m.per_operation("steadyhand alone", "wal_kb"), m.per_operation("plain insert", "wal_kb")
    whole = m.per_operation("steadyhand alone", "wal_kb", "load_wal_kb")
    long = m.per_operation("steadyhand alone, 50 operations", "wal_kb")
    dbos, langgraph = (m.per_operation(f"{peer} alone", "wal_kb") for peer in ("dbos", "langgraph"))
    commits = [m.per_operation(f"{peer} alone", "pg_commits") for peer in ("dbos", "langgraph")]
    told = f"{_n(own)} kB, {_n(whole)} with the runs' own rows; plain {_n(plain)}, DBOS {_n(dbos)}, LangGraph "
    return [
        Row("G4", "WAL per operation beside a plain insert", "<= 1.5x", _ratio(own, plain), most=1.5,
            told=told + _n(langgraph)),
        Row("G4", "WAL per operation, 50 operations a run beside 10", "0.9 to 1.1x", _ratio(long, own), 1.1, 0.9,
            told=f"{_n(long)} kB"),
        Row("G5", "commits per operation, alone", "<= 1.1", m.of("steadyhand alone", "commits_per_op"), 1.1, unit="",
            told=f"DBOS {_n(commits[0])}, LangGraph {_n(commits[1])}"),
        Row("G5", "commits per operation, 100 in flight", "<= 0.2", m.of("steadyhand 100", "commits_per_op"), 0.2,
            unit="", told=f"{_n(m.of('steadyhand 100', 'runs_per_s'))} runs/s"),
    ]  # fmt: skip


def _many(m: Medians) -> list[Row]:
    memory = _less(m.of("steadyhand many", "peak_rss_mb"), m.of("steadyhand many", "rss0_mb"))
    return [
        Row("G6", f"W2, {m.runs('steadyhand many')} runs: wall beside ideal", "<= 1.15x",
            m.of("steadyhand many", "ratio"), 1.15, told=m.peers("many", "ratio")),
        Row("G6", f"W2, {m.runs('steadyhand many')} runs: memory beyond the start", "<= 25 MB", memory, 25, unit=" MB"),
        Row("G6", f"W2, {m.runs('steadyhand more')} runs: wall beside ideal", "<= 1.8x",
            m.of("steadyhand more", "ratio"), 1.8),
    ]  # fmt: skip


def _killed(m: Medians) -> list[Row]:
    done, dbos = m.of("steadyhand killed", "restart_to_done_s"), m.of("dbos killed", "restart_to_done_s")
    lease = m.of("steadyhand, another host", "lease_s") or LEASE_S
    takeover = _less(m.of("steadyhand, another host", "restart_to_done_s"), lease)
    return [
        Row("G7", "W3, restart to done, beside DBOS", "<= 0.4x", _ratio(done, dbos), 0.4,
            told=f"{_n(done)} s; {m.peers('killed', 'restart_to_done_s')}"),
        Row("G7", f"W3, another host: done after the lease of {lease:g} s", "<= 2 s", takeover, 2, unit=" s"),
    ]  # fmt: skip


def _effects(m: Medians) -> list[Row]:
    """W3 is about these first: counted over all rounds, not their median."""
    rows = []
    for entry in ("steadyhand killed", "steadyhand, another host", "steadyhand, frozen and thawed"):
        rounds = [one for one in m.good if one["entry"] == entry]
        wrong = (
            float(sum(one["duplicates"] + one["missing"] + one["failed_runs"] for one in rounds)) if rounds else None
        )
        parked = sum(one["parked_runs"] for one in rounds)
        total = sum(one["effects"] for one in rounds)
        rows.append(Row("G8", f"{entry}: effects twice or missing, runs failed", "0", wrong, 0, unit="",
                        told=f"{total} effects in {len(rounds)} rounds; {parked} runs ask a person"))  # fmt: skip
    return rows


def _ratio(ours: float | None, theirs: float | None) -> float | None:
    return ours / theirs if ours is not None and theirs else None


def _less(value: float | None, other: float | None) -> float | None:
    return None if value is None or other is None else value - other


def _n(value: float | None) -> str:
    return "?" if value is None else f"{value:.3g}"


def _machine() -> str:
    return (
        f"{os.cpu_count()} cores {platform.machine()}, Linux {platform.release()}, Python {platform.python_version()}"
    )
