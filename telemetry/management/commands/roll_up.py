from __future__ import annotations

from argparse import ArgumentParser
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand
from django.utils import timezone

from telemetry import rollups


class Command(BaseCommand):
    help = "Count the runs of past hours again, for the overview. Workers do it each minute for what is recent."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--days", type=int, default=31, help="how far back (default: %(default)s)")

    def handle(self, *args: Any, **options: Any) -> None:
        hours = rollups.ended_hours(timezone.now() - timedelta(days=options["days"]))
        points = 0
        for number, hour in enumerate(hours, start=1):
            points += rollups.roll_up(hour)
            if number % 100 == 0:
                self.stdout.write(f"{number} of {len(hours)} hours")
        self.stdout.write(f"Counted {len(hours)} hours with runs into {points} points.")
