"""The first start on a bare Python, in a small project of its own, without a network.

Its only package is a wheel made here, so uv cannot be had and plain pip does the work: the longer of the two ways.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import textwrap
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from console import bootstrap

ROOT = Path(__file__).resolve().parents[2]
BASE = getattr(sys, "_base_executable", sys.executable)
MANAGE = """
    import sys
    from console import bootstrap
    bootstrap.ensure(sys.argv)
    import django
    print("runs", sys.prefix, django.VERSION, sys.argv[1:])
"""


class Project:
    """A checkout with one package to install."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.wheels = folder.with_name("wheels")
        self.wheels.mkdir()
        (folder / "console").mkdir(parents=True)
        (folder / "console" / "__init__.py").touch()
        shutil.copy(ROOT / "console" / "bootstrap.py", folder / "console")
        (folder / "manage.py").write_text(textwrap.dedent(MANAGE))
        self.pin("5.0")
        (folder / "console" / "constraints-uv.txt").write_text(f"uv==0.0.1 --hash=sha256:{'0' * 64}\n")

    def pin(self, version: str, *, digest: str = "") -> None:
        self.version = version
        wheel = self.wheels / f"django-{version}-py3-none-any.whl"
        info = f"django-{version}.dist-info"
        with zipfile.ZipFile(wheel, "w") as archive:
            archive.writestr("django/__init__.py", f"VERSION = '{version}'\n")
            archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: django\nVersion: {version}\n")
            archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            archive.writestr(f"{info}/RECORD", "")
        digest = digest or hashlib.sha256(wheel.read_bytes()).hexdigest()
        for name in ("constraints.txt", "constraints-test.txt"):
            (self.folder / "console" / name).write_text(f"django=={version} \\\n    --hash=sha256:{digest}\n")

    def start(self, *arguments: str, python: Sequence[str] = (BASE,)) -> subprocess.CompletedProcess[str]:
        env = {"PATH": os.environ["PATH"], "HOME": str(self.folder), "PIP_NO_INDEX": "1"}
        env["PIP_FIND_LINKS"] = str(self.wheels)
        command = [*python, str(self.folder / "manage.py"), *arguments]
        return subprocess.run(
            command, cwd="/", env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path / "project")


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project that was started before. Whatever a test does to it, the next start mends."""
    project = Project(tmp_path_factory.mktemp("started") / "project")
    project.start("up")
    return project


def test_a_bare_python_gets_an_environment_and_goes_on_inside_it(project):
    first = project.start("up", "--port", "9000")
    second = project.start("up")

    assert first.returncode == 0, first.stdout
    assert f"runs {project.folder}/.venv 5.0 ['up', '--port', '9000']" in first.stdout
    assert "plain pip" in first.stdout
    assert second.stdout == f"runs {project.folder}/.venv 5.0 ['up']\n"


def test_changed_constraints_are_installed_at_the_next_start(started):
    started.pin("5.1")

    changed = started.start("up")

    assert f"runs {started.folder}/.venv 5.1" in changed.stdout


def test_the_tests_need_more_than_a_start_and_satisfy_it(started):
    (started.folder / ".venv" / "steadyhand.json").unlink(missing_ok=True)
    before = started.start("up")
    tests = started.start("test")
    after = started.start("up")

    assert "setup" in before.stdout
    assert "setup" in tests.stdout
    assert "setup" not in after.stdout


def test_a_broken_environment_is_made_again(started):
    (started.folder / ".venv" / "bin" / "python").unlink(missing_ok=True)

    again = started.start("up")

    assert "making an environment" in again.stdout
    assert f"runs {started.folder}/.venv {started.version}" in again.stdout


def test_packages_that_somebody_removed_are_installed_again(started):
    for package in (started.folder / ".venv").glob("lib/python*/site-packages/django*"):
        shutil.rmtree(package)

    again = started.start("up")

    assert f"runs {started.folder}/.venv {started.version}" in again.stdout


def test_a_package_with_another_hash_is_refused(project):
    project.pin("5.0", digest="1" * 64)

    refused = project.start("up")

    assert refused.returncode == 1
    assert "The packages could not be installed" in refused.stdout
    assert "HASHES" in refused.stdout.upper()
    assert "Traceback" not in refused.stdout


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_project_that_cannot_be_written_to_is_told_with_the_way_out(project):
    project.folder.chmod(0o500)

    refused = project.start("up")

    project.folder.chmod(0o700)
    assert refused.returncode == 1
    assert "Start as the account that owns it, or copy the project to a folder of yours." in refused.stdout


def test_a_python_with_our_packages_is_used_as_it_is(tmp_path):
    told = subprocess.run(
        [
            sys.executable,
            "-c",
            "from console import bootstrap; bootstrap.ensure(['manage.py', 'test']); print('stayed')",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert told.stdout == "stayed\n", told.stderr


def old_python() -> str | None:
    places = [shutil.which(f"python3.{minor}") for minor in range(6, 11)]
    places += map(str, Path.home().glob(".pyenv/versions/3.[6-9].*/bin/python"))
    for place in filter(None, places):
        if subprocess.run([place, "--version"], capture_output=True, check=False).returncode == 0:
            return place
    return None


def test_an_older_python_is_told_what_it_takes():
    python = old_python()
    if python is None:
        pytest.skip("no Python older than 3.11 is installed")

    refused = subprocess.run([python, ROOT / "manage.py", "up"], capture_output=True, text=True, check=False)

    assert refused.returncode == 1
    assert "Steadyhand needs Python 3.11 or newer; this is Python 3." in refused.stderr


@pytest.mark.parametrize("is_off", [True, False])
def test_packages_come_compiled_where_python_writes_no_bytecode_itself(
    is_off: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", is_off)
    command = bootstrap._uv_install(Path("uv"), Path("constraints.txt"))
    assert ("--compile-bytecode" in command) is is_off
