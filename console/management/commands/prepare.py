from __future__ import annotations

import hashlib
import io
import time
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.staticfiles.finders import get_finders
from django.core.management import call_command, get_commands
from django.core.management.base import BaseCommand, CommandParser


class Command(BaseCommand):
    help = "What `up` does before anything serves: migrations, static files when they changed, demo data."
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--no-demo", action="store_true", help="leave the demo shop and its accounts out")

    def handle(self, *args: Any, **options: Any) -> None:
        self._step("migrations", lambda: call_command("migrate", verbosity=0, interactive=False))
        self._step("static files", _collect_static)
        if not options["no_demo"] and "demo_data" in get_commands():
            # It tells the accounts and their password; `up` does so at the end, once.
            self._step("demo data", lambda: call_command("demo_data", stdout=io.StringIO()))

    def _step(self, name: str, work: Any) -> None:
        began = time.monotonic()
        work()
        self.stdout.write(f"{name}: done in {time.monotonic() - began:.1f} s")


def _collect_static() -> None:
    """Collect when a file changed. Only quick compression here: brotli takes longer than all the rest of a start."""
    stamp = Path(settings.STATIC_ROOT) / ".collected"
    wanted = _digest_of_sources()
    if stamp.exists() and stamp.read_text() == wanted:
        return
    settings.SERVESTATIC_USE_BROTLI = False
    call_command("collectstatic", verbosity=0, interactive=False, clear=True)
    stamp.write_text(wanted)


def _digest_of_sources() -> str:
    digest = hashlib.sha256()
    for finder in get_finders():
        for path, storage in finder.list([]):
            about = Path(storage.path(path)).stat()
            digest.update(f"{path} {about.st_size} {about.st_mtime_ns}\n".encode())
    return digest.hexdigest()
