"""Single files of installed packages as static files, so that nothing is copied into the repository."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.staticfiles.finders import BaseFinder
from django.core.files.storage import FileSystemStorage


class VendorFinder(BaseFinder):
    """Maps a static path to (package, file in it), from the setting VENDOR_FILES."""

    def find(self, path: str, find_all: bool = False, **kwargs: Any) -> Any:
        wanted = settings.VENDOR_FILES.get(path)
        found = [str(_file_of(*wanted))] if wanted else []
        if find_all or kwargs.get("all"):
            return found
        return found[0] if found else []

    def list(self, ignore_patterns: Iterable[str] | None) -> Iterable[tuple[str, FileSystemStorage]]:
        for path, wanted in settings.VENDOR_FILES.items():
            file = _file_of(*wanted)
            storage = FileSystemStorage(location=file.parent)
            storage.prefix = str(Path(path).parent)  # type: ignore[attr-defined]  # collectstatic puts it there
            yield file.name, storage


def _file_of(package: str, inner: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise FileNotFoundError(f"VENDOR_FILES names the package {package!r}, which is not installed.")
    return Path(spec.origin).parent / inner
