from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from console import problems
from console.actors import system
from runtime import memories


class Command(BaseCommand):
    help = "Erase everything that agents remember of a person, for good. Traces of runs stay as they are."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("principal", help="Customer id of the person")
        parser.add_argument("--agent", default="", help="Only with this agent")
        parser.add_argument("--reason", required=True, help="Goes to the audit log")

    def handle(self, *args: Any, **options: Any) -> None:
        by = system("memory_erase")
        try:
            count = memories.erase(options["principal"], by=by, reason=options["reason"], agent=options["agent"])
        except problems.Problem as problem:
            raise CommandError(problem.detail) from problem
        self.stdout.write(f"Erased {count} entr{'y' if count == 1 else 'ies'}.")
