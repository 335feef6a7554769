from __future__ import annotations

import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from console import supervisor


class Command(BaseCommand):
    help = "Start everything in the foreground: servers, console, workers, scheduler. Ctrl-C stops it."
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        supervisor.add_arguments(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        """Only `help up` comes here: manage.py starts the supervisor before Django is loaded."""
        arguments = ["--port", str(options["port"]), "--host", options["host"], "--workers", str(options["workers"])]
        sys.exit(supervisor.main([*arguments, *(["--no-demo"] if options["no_demo"] else [])]))
