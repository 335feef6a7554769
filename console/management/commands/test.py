from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn, TextIO

from django.conf import settings
from django.core.management.base import BaseCommand

JOURNEYS = Path("tests/journeys")
MOST_PROCESSES = 4
SOME_FAILED, NOTHING_COLLECTED = 1, 5
JOURNEYS_CACHE = ".pytest_cache/journeys"  # of their own: both parts remember what failed
WATCHING = frozenset({"-s", "--capture=no", "--pdb", "--trace"})


class Command(BaseCommand):
    help = (
        "Run the tests with pytest on throw-away servers; arguments are pytest's own. The browser journeys run in a"
        " process of their own, because Playwright leaves an event loop behind."
    )
    requires_system_checks = ()

    def run_from_argv(self, argv: list[str]) -> NoReturn:
        """Past Django's parser: every argument belongs to pytest."""
        if argv[2:3] in (["--help"], ["-h"]):
            self.print_help(argv[0], argv[1])
            sys.exit(0)
        sys.exit(run(argv[2:]))

    def handle(self, *args: Any, **options: Any) -> None:
        sys.exit(run([]))


def run(arguments: Sequence[str]) -> int:
    """Both parts, or the one that the paths among the arguments name. The worse exit status of the two.

    Together they run side by side, since both wait much; what the journeys print comes at the end. A journey that
    failed is run once more when the machine is free: what fails again is broken. Whoever wants to see or to touch what
    happens (`-s`, `--pdb`) gets one after the other.
    """
    commands = [command for flag in (False, True) if (command := part(arguments, is_journeys=flag)) is not None]
    watched = commands if WATCHING.intersection(arguments) else commands[:1]
    with tempfile.TemporaryFile("w+") as said, ThreadPoolExecutor() as pool:
        beside = [pool.submit(_status, command, said) for command in commands[len(watched) :]]
        statuses = [_status(command) for command in watched] + [each.result() for each in beside]
        said.seek(0)
        shutil.copyfileobj(said, sys.stdout)
    sys.stdout.flush()
    if beside and statuses[-1] == SOME_FAILED:
        print("\nOnce more, alone: the journeys that failed beside the other tests. What passes now is named above.")
        again = _status([*commands[-1], "--last-failed", "--last-failed-no-failures=none"])
        statuses[-1] = SOME_FAILED if again == NOTHING_COLLECTED else again
    # A selection (-k) may leave one part empty; only when both are was it a mistake.
    told = [status for status in statuses if status != NOTHING_COLLECTED]
    return max(told, default=NOTHING_COLLECTED)


def _status(command: Sequence[str], out: TextIO | None = None) -> int:
    print(f"\n$ python {' '.join(command[1:])}", file=out, flush=True)
    # The tests start some hundred processes: what the first one compiles, the others read.
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    status = subprocess.run(command, cwd=settings.BASE_DIR, check=False, stdout=out, stderr=out, env=env).returncode
    return status if status >= 0 else 128 - status


def part(arguments: Sequence[str], *, is_journeys: bool) -> list[str] | None:
    """The pytest command for one part; None when the arguments name only files of the other."""
    paths = [argument for argument in arguments if _is_path(argument)]
    others = [argument for argument in arguments if argument not in paths]
    mine = [path for path in paths if _is_journey(path) == is_journeys]
    if paths and not mine:
        return None
    command = [sys.executable, "-m", "pytest", *others]
    if is_journeys:
        return (
            [*command, "-p", "no:xdist", "-o", f"cache_dir={JOURNEYS_CACHE}", *(mine or [str(JOURNEYS)])]
            if (settings.BASE_DIR / JOURNEYS).is_dir()
            else None
        )
    if not any(other.startswith(("-n", "--numprocesses")) for other in others):
        command += ["-n", str(min(os.cpu_count() or 1, MOST_PROCESSES)), "--dist", "loadgroup"]
    return [*command, *(mine or ["tests", f"--ignore={JOURNEYS}"])]


def _is_path(argument: str) -> bool:
    return not argument.startswith("-") and _resolved(argument).exists()


def _is_journey(argument: str) -> bool:
    return _resolved(argument).is_relative_to(settings.BASE_DIR / JOURNEYS)


def _resolved(argument: str) -> Path:
    return Path(settings.BASE_DIR, argument.partition("::")[0]).resolve()
