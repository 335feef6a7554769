"""Private files: written whole or not at all, readable by their owner only."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from console.embedded import account
from console.embedded.processes import ServerProblem


def folder(path: Path) -> Path:
    """Make a folder that only its owner can open; it belongs to whoever owns the folder around it."""
    if path.is_dir():
        return path
    try:
        path.mkdir(mode=0o700, parents=True)
    except FileExistsError:
        raise ServerProblem(f"{path} should be a folder, but is a file. Move it away.") from None
    except OSError as error:
        raise ServerProblem(
            f"Cannot make {path}: {error.strerror}. Set STEADYHAND_DATA_DIR to a folder of yours."
        ) from None
    _give_to_owner(path)
    return path


def write(path: Path, text: str) -> None:
    """Replace the file in one step, mode 0600 from its first byte on."""
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text)
        _give_to_owner(beside)
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise ServerProblem(
            f"Cannot write {path}: {error.strerror}. Free some space or mend its permissions."
        ) from None


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    write(path, json.dumps(content, indent=2) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """The object in the file; empty when there is no file."""
    try:
        text = path.read_text()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ServerProblem(f"Cannot read {path}: {error.strerror}. Run this as the account that made it.") from None
    try:
        found = json.loads(text)
    except ValueError:
        raise ServerProblem(f"{path} is damaged: it is no JSON. Restore it from a backup.") from None
    if not isinstance(found, dict):
        raise ServerProblem(f"{path} is damaged: it holds no JSON object. Restore it from a backup.")
    return found


def _give_to_owner(path: Path) -> None:
    owner = account.owner_of(path.parent)
    if owner is not None:
        os.chown(path, *owner, follow_symlinks=False)
