from __future__ import annotations

import sys
from contextlib import suppress
from types import FrameType
from typing import TYPE_CHECKING, Any, cast

import uvicorn
from django.core.management.base import BaseCommand, CommandParser
from django.db import connections
from uvicorn.main import STARTUP_FAILURE  # type: ignore[attr-defined]  # the status that uvicorn itself exits with

from console import pools, stopping

if TYPE_CHECKING:
    from django.db.backends.postgresql.base import DatabaseWrapper

# An open page keeps its socket for ever; a stop does not wait longer than this for it.
GRACE_SECONDS = 5


class Server(uvicorn.Server):
    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Also tell event streams, which end by themselves; their readers come back to the next server."""
        stopping.begin()
        super().handle_exit(sig, frame)


class Command(BaseCommand):
    help = "Serve the console and the API (ASGI). Behind a proxy, name it with --forwarded-allow-ips."
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
        parser.add_argument("--port", type=int, default=8000, help="port to listen on (default: %(default)s)")
        parser.add_argument("--forwarded-allow-ips", help="proxies whose X-Forwarded headers are believed")
        parser.add_argument("--access-log", action="store_true", help="one line per request")

    def handle(self, *args: Any, **options: Any) -> None:
        _pool_connections()
        # Loaded here, so that a fault shows its own traceback and ends the process with an error.
        from console.asgi import application

        config = uvicorn.Config(
            application,
            host=options["host"],
            port=options["port"],
            forwarded_allow_ips=options["forwarded_allow_ips"],
            access_log=options["access_log"],
            lifespan="off",
            log_config=None,
            server_header=False,
            timeout_graceful_shutdown=GRACE_SECONDS,
        )
        server = Server(config)
        with suppress(KeyboardInterrupt):
            server.run()
        if not server.started:
            sys.exit(STARTUP_FAILURE)


def _pool_connections() -> None:
    """Under ASGI every request has a thread of its own, so a connection kept by its thread is never used again.

    Only here: a worker that forks would share the pool's connections with its children.
    """
    database = connections.settings["default"]
    database["CONN_MAX_AGE"] = 0
    database["OPTIONS"] = {**database["OPTIONS"], "pool": pools.OPTIONS}
    pools.guard(cast("DatabaseWrapper", connections["default"]))
