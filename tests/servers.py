"""A pytest plugin: a PostgreSQL and a Valkey that live for one test run, started before settings are read.

With DATABASE_URL and REDIS_URL the tests run on those servers instead. Under xdist the controller starts the servers
and each worker gets a database (pytest-django) and a Redis database number of its own.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Generator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from console.embedded import files, servers, session
from console.embedded.processes import ServerProblem

WORKER_VARIABLE = "PYTEST_XDIST_WORKER"

_stack = ExitStack()
# A forked copy of this process must not stop the servers of the original.
_owner = os.getpid()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--shots", metavar="DIR", default=None, help="store screenshots of the browser journeys there")


@pytest.hookimpl(wrapper=True)
def pytest_load_initial_conftests() -> Generator[None, object, object]:
    """The wrapper runs before pytest-django reads the settings."""
    worker = os.environ.get(WORKER_VARIABLE)
    try:
        if worker:
            _take_redis_database(int(worker.removeprefix("gw")) + 1)
        else:
            _start()
    except ServerProblem as problem:
        raise pytest.UsageError(str(problem)) from None
    return (yield)


def pytest_unconfigure() -> None:
    _stop()


@atexit.register
def _stop() -> None:
    if os.getpid() == _owner:
        _stack.close()


def _start() -> None:
    folder = Path(tempfile.mkdtemp(prefix="steadyhand-test-"))
    _stack.callback(shutil.rmtree, folder, ignore_errors=True)
    (folder / "static").mkdir()
    os.environ["STEADYHAND_DATA_DIR"] = str(folder)
    os.environ["DJANGO_SETTINGS_MODULE"] = "console.settings"
    for name in servers.KEYS:
        os.environ[name.upper()] = servers.new_key()
    if session.is_external():
        _refuse_redis_in_use()
        return
    files.folder(folder)
    started = _stack.enter_context(servers.running(folder, throwaway=True))
    os.environ.update(started.variables)


def _take_redis_database(number: int) -> None:
    address, _, _ = os.environ[servers.REDIS_VARIABLE].rpartition("/")
    os.environ[servers.REDIS_VARIABLE] = f"{address}/{number}"


def own_channels() -> None:
    """Redis delivers messages across its database numbers: processes that test side by side must not hear each other.

    A program that a test starts is in earshot of the test when it calls this, too.
    """
    from django.conf import settings

    if worker := os.environ.get(WORKER_VARIABLE):
        layer: dict[str, Any] = settings.CHANNEL_LAYERS["default"]
        settings.CHANNEL_LAYERS = {"default": {**layer, "CONFIG": {**layer["CONFIG"], "prefix": f"test-{worker}"}}}


def _refuse_redis_in_use() -> None:
    """The tests empty their Redis database before each test, so it must not be anybody's."""
    import redis

    url = os.environ[servers.REDIS_VARIABLE]
    if not url.rpartition("/")[2].isdigit():
        raise ServerProblem("REDIS_URL must end in a database number for the tests, for example /0.")
    with redis.Redis.from_url(url) as connection:
        keys = connection.dbsize()
    if keys:
        raise ServerProblem(
            f"The Redis database of REDIS_URL holds {keys} keys, and the tests would delete them. Use an empty one."
        )
