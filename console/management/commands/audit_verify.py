from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from pydantic import TypeAdapter, ValidationError

from console import audit
from console.embedded import files
from console.embedded.processes import ServerProblem

ANCHOR = TypeAdapter(audit.Anchor)


class Command(BaseCommand):
    help = (
        "Verify the chain of the audit log, and name the first entry that does not fit; the exit status is 1 then. With"
        " --anchor it also notices a tail that was cut off: keep that file where the database's owners cannot write."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--anchor", type=Path, metavar="FILE", help="how far the chain came last time; made anew when it is whole"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        place: Path | None = options["anchor"]
        try:
            found = audit.verify(_read(place) if place else None)
            if found.first_bad_id is not None:
                raise CommandError(
                    f"The chain breaks at entry {found.first_bad_id}: {found.why}."
                    f" The {found.entries:,} entries before fit together."
                )
            if place and found.head and found.entries:
                files.write_json(place, asdict(found.head))
        except ServerProblem as unwilling:
            raise CommandError(str(unwilling)) from unwilling
        self.stdout.write(f"The chain is whole: {found.entries:,} entries fit together.")


def _read(place: Path) -> audit.Anchor | None:
    """None when there is none yet."""
    if not place.exists():
        return None
    try:
        return ANCHOR.validate_python(files.read_json(place))
    except ValidationError:
        raise CommandError(
            f"{place} is no anchor of the audit log: it should hold entries, id and hash. Restore it; without it a"
            " tail that was cut off cannot be seen."
        ) from None
