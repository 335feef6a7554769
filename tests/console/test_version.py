"""Which code a process runs."""

from __future__ import annotations

import re

import pytest

from console import version

COMMIT = "5dce32941f0b2c3d4e5f60718293a4b5c6d7e8f9"


def test_the_version_is_that_of_the_project_with_its_revision():
    assert re.fullmatch(r"\d+\.\d+\.\d+(\+[0-9a-f]{8})?", version.current())


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ({"HEAD": COMMIT}, COMMIT),
        ({"HEAD": "ref: refs/heads/main\n", "refs/heads/main": f"{COMMIT}\n"}, COMMIT),
        ({"HEAD": "ref: refs/heads/main\n", "packed-refs": f"# pack-refs\n{COMMIT} refs/heads/main\n"}, COMMIT),
        ({"HEAD": "ref: refs/heads/main\n"}, ""),
        ({"HEAD": "nonsense"}, ""),
        ({}, ""),
    ],
)
def test_the_revision_is_read_where_git_keeps_it(tmp_path, files, found):
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    assert version.revision(tmp_path) == found
