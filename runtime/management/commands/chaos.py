"""`manage.py chaos`: hurt workers and servers under load, then count. See docs/reference/chaos.md."""

from __future__ import annotations

import json
import logging
import random
import signal
import sys
import time
from argparse import ArgumentParser
from types import FrameType
from typing import Any

from django.core.management.base import BaseCommand

from console.embedded import session
from runtime.chaos import reports
from runtime.chaos.storm import Figures, NotStarted, Options, Storm

CANNOT_START = 2
INTERRUPTED = 130
TELL_EVERY_S = 10.0


class Command(BaseCommand):
    help = "Kill, freeze and cut off workers and servers under load; print what was lost, repeated or left stuck."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--kills", type=int, default=20, help="processes to kill (default 20); others are frozen")
        parser.add_argument("--seed", type=int, help="order of the faults; printed, so that it can be given again")
        parser.add_argument("--workers", type=int, default=3, help="worker processes (default 3)")
        parser.add_argument("--runs-at-once", type=int, default=30, help="unfinished runs to keep (default 30)")
        parser.add_argument("--pause", type=float, default=1.0, help="mean seconds between two faults (default 1)")
        parser.add_argument("--lease", type=float, help="seconds of the workers' lease; default: the product's")
        parser.add_argument("--minutes", type=float, help="stop the faults after this time, and judge what there is")
        parser.add_argument("--json", action="store_true", help="print one line of JSON instead of the table")

    def handle(self, *args: Any, **options: Any) -> None:
        logging.disable(logging.WARNING)  # servers go away here, again and again
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, _interrupt)
        if session.own is None or len(session.own.each()) < 2:
            self.stderr.write(
                "DATABASE_URL or REDIS_URL is given: a server that was not started here is not restarted."
            )
        seed = options["seed"] if options["seed"] is not None else random.SystemRandom().randrange(10**6)
        self.stderr.write(f"seed {seed}")
        wanted = Options(
            kills=options["kills"],
            seed=seed,
            workers=max(2, options["workers"]),
            runs_at_once=options["runs_at_once"],
            pause_s=options["pause"],
            lease_s=options["lease"],
            most_s=options["minutes"] * 60 if options["minutes"] else None,
        )
        shown = Shown(self, wanted.kills)
        try:
            report = Storm(wanted, shown.show).run()
        except NotStarted as why:
            self.stderr.write(str(why))
            sys.exit(CANNOT_START)
        except KeyboardInterrupt:
            self.stderr.write("Stopped. Everything that was started has been ended; nothing was judged.")
            sys.exit(INTERRUPTED)
        finally:
            shown.end()
        self.stdout.write(json.dumps(report) if options["json"] else reports.table(report))
        if not reports.is_clean(report):
            sys.exit(1)


class Shown:
    """Progress on stderr: one line that changes on a terminal, a line now and then elsewhere."""

    def __init__(self, command: BaseCommand, kills: int) -> None:
        self.out = command.stderr
        self.kills = kills
        self.began = self.told_at = time.monotonic()

    def show(self, figures: Figures) -> None:
        is_terminal, moment = self.out.isatty(), time.monotonic()
        if not is_terminal and moment - self.told_at < TELL_EVERY_S:
            return
        self.told_at = moment
        left = "?" if figures.unfinished is None else figures.unfinished
        line = (
            f"{moment - self.began:5.0f} s  {figures.kills} of {self.kills} kills, {figures.faults} faults,"
            f" {figures.accepted} runs accepted, {left} unfinished"
        )
        self.out.write(f"\r{line:<78}" if is_terminal else line, ending="" if is_terminal else "\n")
        self.out.flush()

    def end(self) -> None:
        if self.out.isatty():
            self.out.write("")


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
