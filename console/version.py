"""Which code this process runs: the version of the project, and the revision where it is a checkout."""

from __future__ import annotations

import re
import tomllib
from functools import lru_cache
from pathlib import Path

from django.conf import settings

SHORT = 8
REVISION = re.compile(r"[0-9a-f]{40}")


@lru_cache(maxsize=1)
def current() -> str:
    """`0.1.0+5dce3294`. Read once, so a process goes on saying what it started with after the files have changed."""
    with (settings.BASE_DIR / "pyproject.toml").open("rb") as project:
        version = str(tomllib.load(project)["project"]["version"])
    found = revision(settings.BASE_DIR / ".git")
    return f"{version}+{found[:SHORT]}" if found else version


def revision(git: Path) -> str:
    """The commit that is checked out; empty when that cannot be told."""
    try:
        head = (git / "HEAD").read_text().strip()
        name = head.removeprefix("ref: ")
        if name != head:
            loose = git / name
            head = loose.read_text().strip() if loose.is_file() else _packed(git, name)
    except OSError:
        return ""
    return head if REVISION.fullmatch(head) else ""


def _packed(git: Path, name: str) -> str:
    lines = (line.split() for line in (git / "packed-refs").read_text().splitlines())
    return next((words[0] for words in lines if words[1:] == [name]), "")
