"""A browser on the real product: web server, workers and scheduler as processes, on a database of their own."""

from __future__ import annotations

import http.client
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, LiteralString
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
import redis
from axe_playwright_python.sync_playwright import Axe
from django.conf import global_settings, settings
from django.contrib.auth import hashers
from django.db import connection
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, expect, sync_playwright
from psycopg import sql
from pytest_django import DjangoDbBlocker

from console.embedded import ports, processes

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = [
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
]
MANAGE = settings.BASE_DIR / "manage.py"
WORKERS = 1  # unless the module says otherwise
WIDTHS = (1440, 390)
THEMES = ("light", "dark")
START_SECONDS = 300.0
PATIENCE_MS = 60_000
REDIS_DATABASE = 9
# Playwright leaves its event loop in this thread, and Django would refuse to ask the database beside it.
os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"

REPORT_VIOLATIONS = """
document.addEventListener("securitypolicyviolation", event => console.error(
    `CSP violation: ${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}:${event.lineNumber}`))
"""


class QuickHasher(hashers.PBKDF2PasswordHasher):
    """As in production, in one round instead of a million."""

    iterations = 1


@pytest.fixture(scope="session", autouse=True)
def passwords_as_in_production() -> None:
    """The web process knows only Django's own hashers; an account made here must be able to sign in there."""
    settings.PASSWORD_HASHERS = [f"{__name__}.{QuickHasher.__name__}", *global_settings.PASSWORD_HASHERS[1:]]
    hashers.get_hashers.cache_clear()
    hashers.get_hashers_by_algorithm.cache_clear()


def browser_program() -> str | None:
    return next((found for name in BROWSERS if (found := shutil.which(name))), None)


@pytest.fixture(scope="session")
def prepared_database(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> str:
    """The test database with the demo data, used as a template: each module begins with a copy of it."""
    if browser_program() is None:
        pytest.skip(f"No browser: none of {', '.join(BROWSERS)} is installed (Debian: apt install chromium).")
    name = str(connection.settings_dict["NAME"])
    # A process of its own, with the settings as they are outside of tests.
    env = os.environ | {"DATABASE_URL": _address(name)}
    prepare = subprocess.run([sys.executable, MANAGE, "prepare"], env=env, capture_output=True, text=True, check=False)
    if prepare.returncode != 0:
        pytest.fail(f"`manage.py prepare` failed:\n{prepare.stdout}{prepare.stderr}")
    with django_db_blocker.unblock():
        connection.close()
    return name


@pytest.fixture(scope="module")
def database(prepared_database: str, django_db_blocker: DjangoDbBlocker) -> Iterator[str]:
    """A database of this module's own, which the test and the processes see alike. Yields its address."""
    name = f"journey_{os.getpid()}_{time.monotonic_ns() % 10**9}"
    _administer("CREATE DATABASE {} TEMPLATE {}", name, prepared_database)
    connection.settings_dict["NAME"] = name
    try:
        with django_db_blocker.unblock():
            yield _address(name)
            connection.close()
    finally:
        connection.settings_dict["NAME"] = prepared_database
        _administer("DROP DATABASE {} WITH (FORCE)", name)


def _address(database: str) -> str:
    return urlunsplit(urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/{database}"))


def _administer(statement: LiteralString, *names: str) -> None:
    with psycopg.connect(_address("postgres"), autocommit=True) as administrator:
        administrator.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))


class Product:
    """The processes of `up`, without its supervisor. `workers` are there to be killed."""

    def __init__(self, database_url: str, log_folder: Path, workers: int) -> None:
        self.workers = workers
        self.port = ports.pick()
        self.url = f"http://{ports.LOOPBACK}:{self.port}"
        self.log_folder = log_folder
        redis_url = re.sub(r"/\d+$", f"/{REDIS_DATABASE}", os.environ["REDIS_URL"])
        with redis.Redis.from_url(redis_url) as connection:
            connection.flushdb()
        self.env = os.environ | {"DATABASE_URL": database_url, "REDIS_URL": redis_url, "STEADYHAND_BASE_URL": self.url}
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, *command: str) -> None:
        with (self.log_folder / f"{name}.log").open("ab") as log:
            self.running[name] = processes.start([sys.executable, MANAGE, *command], output=log, env=self.env)

    def start_all(self) -> None:
        self.start("web", "web", "--port", str(self.port))
        for slot in range(1, self.workers + 1):
            self.start_worker(slot)
        self.start("scheduler", "scheduler")
        if not processes.wait_until(
            self._is_ready, alive=lambda: self.running["web"].poll() is None, seconds=START_SECONDS
        ):
            pytest.fail(f"The web server did not start:{processes.tail(self.log_folder / 'web.log')}")

    def start_worker(self, slot: int) -> None:
        self.start(f"worker-{slot}", "worker", "--slot", str(slot))

    def _is_ready(self) -> bool:
        connection = http.client.HTTPConnection(ports.LOOPBACK, self.port, timeout=5)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    def stop(self) -> None:
        for process in self.running.values():
            process.send_signal(signal.SIGTERM)
        for process in self.running.values():
            processes.stop(process, patience=10)


@pytest.fixture(scope="module")
def product(
    request: pytest.FixtureRequest, database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Product]:
    started = Product(database, tmp_path_factory.mktemp("logs"), getattr(request.module, "WORKERS", WORKERS))
    try:
        started.start_all()
        yield started
    finally:
        started.stop()


@pytest.fixture(scope="module")
def console_url(product: Product) -> str:
    """Where the console answers, with demo data behind it."""
    return product.url


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    program = browser_program()
    if program is None:
        pytest.skip(f"No browser: none of {', '.join(BROWSERS)} is installed (Debian: apt install chromium).")
    # Chromium's sandbox does not work for root.
    flags = [*FLAGS, "--no-sandbox"] if os.geteuid() == 0 else FLAGS
    with sync_playwright() as playwright:
        expect.set_options(timeout=PATIENCE_MS)
        started = playwright.chromium.launch(executable_path=program, args=flags)
        yield started
        started.close()


class Complaints(list[str]):
    """What the browser's console said as an error. A journey that expects one takes it off with `forgive`."""

    def forgive(self, pattern: str) -> None:
        """Take off the complaints that match; at least one has to."""
        matching = [each for each in self if re.search(pattern, each)]
        assert matching, f"The browser did not complain about {pattern!r}, but: {list(self)}"
        self[:] = [each for each in self if each not in matching]


@pytest.fixture
def complaints() -> Complaints:
    return Complaints()


@pytest.fixture
def context(browser: Browser, console_url: str, complaints: Complaints) -> Iterator[BrowserContext]:
    """A fresh browser profile. Every error and every breach of the content security policy fails the journey."""
    opened = browser.new_context(base_url=console_url, viewport={"width": 1440, "height": 900}, locale="en-US")
    opened.set_default_timeout(PATIENCE_MS)
    opened.add_init_script(REPORT_VIOLATIONS)

    def listen(message: ConsoleMessage) -> None:
        # A region that is refreshed while its page is being left finds its second target gone; it hurts nobody.
        if message.type == "error" and not message.text.startswith("htmx:oobErrorNoTarget"):
            complaints.append(f"{message.text} ({message.location.get('url', '')})")

    opened.on("console", listen)
    opened.on("weberror", lambda error: complaints.append(str(error.error)))
    yield opened
    opened.close()
    assert not complaints, "The browser complained:\n" + "\n".join(complaints)


@pytest.fixture
def page(context: BrowserContext) -> Page:
    return context.new_page()


@pytest.fixture
def scriptless(browser: Browser, console_url: str) -> Iterator[Page]:
    """A page of another browser profile, in which no script runs."""
    opened = browser.new_context(base_url=console_url, java_script_enabled=False)
    yield opened.new_page()
    opened.close()


@pytest.fixture
def shots(request: pytest.FixtureRequest) -> Callable[..., None]:
    """`shots(page, "run-trace")` stores the page in both themes and widths, with `--shots DIR`; else nothing."""
    folder = request.config.getoption("--shots")

    def take(page: Page, name: str, *, full: bool = True) -> None:
        if folder is None:
            return
        Path(folder).mkdir(parents=True, exist_ok=True)
        before = page.viewport_size
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 900})
            for theme in THEMES:
                page.emulate_media(color_scheme=theme)
                page.wait_for_timeout(150)
                page.screenshot(path=Path(folder) / f"{name}-{theme}-{width}.png", full_page=full)
        page.emulate_media(color_scheme="light")
        if before is not None:
            page.set_viewport_size(before)

    return take


@pytest.fixture(scope="session")
def axe() -> Callable[[Page], list[dict[str, Any]]]:
    """`axe(page)`: what the accessibility checker finds wrong on the page; in the dark, with its colours alone.

    Each page is looked at in the light, too, where everything else is checked.
    """
    checker = Axe()
    of_colours = {"runOnly": ["color-contrast", "link-in-text-block"]}

    def check(page: Page) -> list[dict[str, Any]]:
        is_dark = page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
        found = checker.run(page, options=of_colours if is_dark else None)
        violations: list[dict[str, Any]] = found.response["violations"]
        return [
            {"rule": each["id"], "help": each["help"], "nodes": [node["html"][:200] for node in each["nodes"]]}
            for each in violations
        ]

    return check
