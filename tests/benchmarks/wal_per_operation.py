"""G4: WAL per durable operation, beside a plain insert of the same size and at two lengths of a run.

    python -m tests.benchmarks.wal_per_operation          ROUNDS=3 RUNS=60 PAYLOAD=1000

`manage.py bench W1` with 10 and with 50 operations a run, and single committed inserts of one JSON document into a
table with a primary key, in turn. What a run costs once (input, guardrails, claim, end) is spread over its operations;
`further_kb` is the price of each operation more.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

from tests.benchmarks import ground

ROUNDS = ground.knob("ROUNDS", 3)
RUNS = ground.knob("RUNS", 60)
SHORT, LONG = 5, 25
INSERTS = 1000


def main() -> None:
    with ground.standing():
        rounds = [(_bench(SHORT), _bench(LONG), _plain()) for _ in range(ROUNDS)]
    short, long, plain = (ground.median([one[place] for one in rounds]) for place in range(3))
    ground.emit(
        benchmark="wal_per_operation",
        rounds=ROUNDS,
        operations_10_kb=short,
        operations_50_kb=long,
        further_kb=round((long * 2 * LONG - short * 2 * SHORT) / (2 * LONG - 2 * SHORT), 4),
        plain_insert_kb=plain,
        beside_plain_insert=round(short / plain, 2),
        long_beside_short=round(long / short, 3),
    )


def _bench(steps: int) -> float:
    env = os.environ | {"RUNS": str(RUNS), "STEPS": str(steps), "CONC": "1"}
    command = [sys.executable, str(ground.MANAGE), "bench", "W1"]
    said = subprocess.run(command, env=env, stdout=subprocess.PIPE, text=True, check=True).stdout
    return float(json.loads(said)["wal_kb_per_op"])


def _plain() -> float:
    from django.db import connection

    from runtime.bench import meters, scenes

    def documents() -> Any:
        return (json.dumps({"k": n % 2, "text": scenes.payload()}) for n in range(INSERTS))

    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS benchmark_plain")
        cursor.execute(
            "CREATE TABLE benchmark_plain (run_id bigint, seq int, kind smallint, data jsonb,"
            " at timestamptz DEFAULT now(), PRIMARY KEY (run_id, seq))"
        )
        before = meters.wal_bytes()
        for n, document in enumerate(documents()):
            cursor.execute(
                "INSERT INTO benchmark_plain (run_id, seq, kind, data) VALUES (%s, %s, %s, %s)",
                [n // 10, n % 10, n % 2, document],
            )
        return (meters.wal_bytes() - before) / 1024 / INSERTS


if __name__ == "__main__":
    main()
