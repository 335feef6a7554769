"""`manage.py bench` with tiny loads: what it counts and what it refuses, never how long anything took."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from django.conf import settings
from django.core.management import call_command

from console.embedded import files, servers
from runtime import workers
from runtime.bench import knobs, loads, measuring
from runtime.bench.knobs import Refused
from runtime.states import RunStatus
from tests import builders

MANAGE = settings.BASE_DIR / "manage.py"
LEFT = (
    "runtime_run",
    "runtime_step",
    "runtime_thread",
    "runtime_worker",
    "releases_agent",
    "approvals_approvalrequest",
)


@pytest.fixture(scope="module")
def durable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Servers that keep what they commit, with an empty database; nothing else, and no keys."""
    folder = tmp_path_factory.mktemp("bench")
    files.folder(folder)
    given = {name: os.environ.pop(name) for name in (servers.DATABASE_VARIABLE, servers.REDIS_VARIABLE)}
    try:
        with servers.running(folder) as started:
            env = {name: value for name, value in os.environ.items() if name.lower() not in servers.KEYS}
            addresses = {name: started.variables[name] for name in given}
            yield env | addresses | {"STEADYHAND_DATA_DIR": str(folder)}
    finally:
        os.environ.update(given)


def measure(env: dict[str, str], workload: str, **knobs: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, MANAGE, "bench", workload], env=env | knobs, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    line, rest = done.stdout.split("\n", 1)
    assert rest == ""
    found: dict[str, Any] = json.loads(line)
    return found


def left(env: dict[str, str]) -> dict[str, int]:
    with psycopg.connect(env["DATABASE_URL"]) as connection:
        rows = {table: connection.execute(f"SELECT count(*) FROM {table}").fetchone() for table in LEFT}
    return {table: row[0] for table, row in rows.items() if row and row[0]}


def test_w1_has_the_keys_of_the_peers_counts_every_operation_and_leaves_nothing(durable):
    found = measure(durable, "W1", RUNS="3", STEPS="2", CONC="2", PAYLOAD="20000")

    asked = {"workload": "W1", "peer": "steadyhand", "runs": 3, "steps": 2, "conc": 2, "payload": 20_000}
    assert asked.items() <= found.items()
    peers = {"version", "wall_s", "runs_per_s", "durable_ops_per_s", "client_cpu_s"}
    assert peers | {"step_ms_p50", "step_ms_p95", "step_ms_p99"} <= set(found)
    assert 0 < found["step_ms_p50"] <= found["step_ms_p95"] <= found["step_ms_p99"]
    assert found["pg_commits"] > 0
    assert found["wal_kb_per_op"] > 19  # the result itself, which cannot be compressed to nothing
    assert left(durable) == {}


def test_w2_has_the_keys_of_the_peers(durable):
    found = measure(durable, "W2", RUNS="3", CALLS="2", SLEEP="0.05")

    assert {"workload": "W2", "runs": 3, "calls": 2, "sleep_s": 0.05, "ideal_s": 0.1}.items() <= found.items()
    assert {"payload", "pool", "wall_s", "ratio", "ops_per_s", "client_cpu_s", "rss0_mb", "peak_rss_mb"} <= set(found)
    assert found["ratio"] >= 1
    assert left(durable) == {}


@pytest.mark.parametrize("variant", ["", "OTHER ZOMBIE"])
def test_w3_counts_effects_and_runs_that_ask_a_person(durable, variant):
    found = measure(durable, "W3", RUNS="3", STEPS="3", LEASE="4", **dict.fromkeys(variant.split(), "1"))

    assert {"workload": "W3", "runs": 3, "steps": 3, "variant": variant, "finished": True}.items() <= found.items()
    assert {"restart_to_ready_s", "restart_to_done_s", "ready_to_done_s", "ready_to_first_effect_s"} <= set(found)
    assert found["effects_at_kill"] >= 3.6
    assert (found["duplicates"], found["missing"], found["failed_runs"]) == (0, 0, 0)
    assert found["effects"] + 3 * found["parked_runs"] >= 9
    assert left(durable) == {}


@pytest.mark.django_db
def test_a_server_that_does_not_wait_for_the_disk_is_refused(capsys):
    with pytest.raises(SystemExit) as ended:
        call_command("bench", "W1")

    assert ended.value.code == 2
    assert "fsync=off" in capsys.readouterr().err


@pytest.mark.django_db
def test_a_database_that_a_worker_uses_is_refused():
    workers.register("somebody's")

    with pytest.raises(Refused, match=r"somebody's .* DATABASE_URL"):
        measuring.require_quiet()


@pytest.mark.django_db
def test_a_database_in_which_runs_wait_is_refused():
    builders.a_run(RunStatus.QUEUED)

    with pytest.raises(Refused, match="1 runs wait for a worker"):
        measuring.require_quiet()


@pytest.mark.parametrize(
    "wrong", [{"RUNS": "0"}, {"RUNS": "many"}, {"SLEEP": "-1"}, {"KILL_AT": "2"}, {"PAYLOAD": "1e3"}]
)
def test_a_knob_that_cannot_be_used_is_named(wrong):
    with pytest.raises(Refused, match=next(iter(wrong))):
        knobs.read("W1", wrong)


@pytest.mark.django_db
def test_held_jobs_are_out_of_sight_until_they_are_released():
    load = loads.Load(knobs.read("W1", {"RUNS": "2"}))

    load.offer(load.create(2), hold=True)
    waiting = load.queue.count
    load.release_held()

    assert (waiting, load.queue.count) == (0, 2)
