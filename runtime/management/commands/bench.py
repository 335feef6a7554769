"""`manage.py bench`: measure the product through its real worker. See docs/explanation/performance.md."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from typing import Any

from django.core.management import call_command
from django.core.management.base import BaseCommand

from runtime.bench import measuring
from runtime.bench.knobs import Refused

CANNOT_MEASURE = 2
MORE = """\
workloads:
  W1  RUNS (300) runs of STEPS (5) x (model + tool), CONC (1) in flight: the price of a durable operation
  W2  RUNS (500) runs at once, each of CALLS (3) model calls of SLEEP (1) seconds: one process against the ideal
  W3  the worker is killed (SIGKILL) in the middle of RUNS (100) runs with effects that must not happen twice;
      KILL_AT (0.4) of the effects exist then. OTHER=1: another slot takes over, LEASE seconds after the last
      heartbeat. ZOMBIE=1: the first worker is only frozen, and thawed when the takeover has ended.

All knobs are environment variables; PAYLOAD (1000) is the bytes of a result, POOL (20) the worker's connections,
GIVE_UP (600; W3 120) the seconds after which a measurement is given up. One line of JSON on stdout; see
docs/reference/bench.md.

  CONC=16 RUNS=500 python3 manage.py bench W1
  DATABASE_URL=postgresql://... REDIS_URL=redis://... OTHER=1 ZOMBIE=1 python3 manage.py bench W3

The database may be empty; it must run with fsync, and no other worker may use it meanwhile.
"""


class Command(BaseCommand):
    help = "Measure the product through its real worker; prints one line of JSON."

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> Any:
        return super().create_parser(
            prog_name, subcommand, epilog=MORE, formatter_class=RawDescriptionHelpFormatter, **kwargs
        )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("workload", choices=sorted(measuring.WORKLOADS))
        parser.add_argument("--keep", action="store_true", help="leave agent and runs in the database, to look at them")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            call_command("migrate", verbosity=0, interactive=False)
            measured = measuring.run(options["workload"], keep=options["keep"])
        except Refused as why:
            self.stderr.write(str(why))
            sys.exit(CANNOT_MEASURE)
        except RuntimeError as broken:
            self.stderr.write(str(broken))
            sys.exit(1)
        self.stdout.write(json.dumps(measured))
