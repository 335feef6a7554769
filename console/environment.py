"""The one place where settings are read from the environment.

Every variable is listed here with its meaning; a value that cannot be used stops the process with the variable's name.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from console.embedded import files, servers
from console.embedded.processes import ServerProblem

ROOT = servers.ROOT
SHORTEST_KEY = 50
POSTGRES_SCHEMES = {"postgresql", "postgres"}
REDIS_SCHEMES = {"redis", "rediss", "unix"}


class Environment(BaseSettings):
    """What the process was told from outside. Names are upper case in the environment."""

    model_config = SettingsConfigDict(env_file=None, extra="ignore", frozen=True, env_ignore_empty=True)

    database_url: str = Field("", description="postgresql://user:password@host:port/name; empty: embedded PostgreSQL")
    redis_url: str = Field("", description="redis://:password@host:port/0; empty: embedded Valkey")
    steadyhand_secret_key: str = Field("", description="Signs sessions and forms; 50 or more random characters")
    steadyhand_audit_key: str = Field("", description="Key of the audit chain; 50 or more random characters")
    steadyhand_data_dir: Path = Field(
        default_factory=servers.data_dir, description="Embedded servers keep their data here; static files go here"
    )
    steadyhand_debug: bool = Field(False, description="Django's debug mode: tracebacks in the browser")
    steadyhand_allowed_hosts: list[str] = Field(
        ["localhost", "127.0.0.1", "[::1]"], description="Host names the console answers to, as a JSON list"
    )
    steadyhand_base_url: str = Field("http://127.0.0.1:8000", description="Address of the console in links it sends")
    steadyhand_environment: str = Field("Demo", description="Shown beside the name in the console")
    steadyhand_tools: list[str] = Field([], description="Modules with tools of your own, as a JSON list")
    steadyhand_allow_private_hosts: list[str] = Field(
        [], description="Hosts that callbacks, tools and MCP servers may have at private addresses, as a JSON list"
    )
    steadyhand_mcp_commands: list[str] = Field(
        [], description="Beginnings of command lines that may be started as MCP servers, as a JSON list"
    )
    steadyhand_api_requests_per_minute: int = Field(300, ge=1, description="Requests per API token and minute")
    steadyhand_queue_limit: int = Field(2000, ge=1, description="Queued runs at which new ones are turned away")
    steadyhand_agent_queue_limit: int = Field(0, ge=0, description="The same for the runs of one agent; 0: no limit")
    steadyhand_queue_oldest_seconds: int = Field(
        0, ge=0, description="New runs are turned away while one has waited longer for a worker; 0: no limit"
    )
    steadyhand_model_concurrency: dict[str, Annotated[int, Field(ge=1)]] = Field(
        {}, description='Runs at work at once by model, as JSON: {"openai/gpt-5": 20}'
    )
    steadyhand_turns_at_once: int = Field(
        200, ge=1, le=5000, description="Turns of runs that one worker process executes at once"
    )
    steadyhand_queue_alarm_seconds: int = Field(
        60, ge=1, description="A run that waits longer than this for a worker is an alarm on every operator's page"
    )
    steadyhand_https: bool = Field(False, description="Secure cookies, HSTS and redirect to https")
    steadyhand_start: str = Field("", description="Set by `up`, which knows its own console by it")
    steadyhand_log_level: str = Field("INFO", description="DEBUG, INFO, WARNING or ERROR")

    @field_validator("database_url")
    @classmethod
    def is_postgres(cls, url: str) -> str:
        return _with_scheme(url, POSTGRES_SCHEMES)

    @field_validator("redis_url")
    @classmethod
    def is_redis(cls, url: str) -> str:
        return _with_scheme(url, REDIS_SCHEMES)

    @field_validator("steadyhand_secret_key", "steadyhand_audit_key")
    @classmethod
    def is_long(cls, key: str) -> str:
        if key and len(key) < SHORTEST_KEY:
            raise ValueError(f"has {len(key)} characters; a key needs {SHORTEST_KEY} or more, all random")
        return key

    @field_validator("steadyhand_log_level")
    @classmethod
    def is_level(cls, level: str) -> str:
        if level.upper() not in {"DEBUG", "INFO", "WARNING", "ERROR"}:
            raise ValueError(f"{level!r} is none of DEBUG, INFO, WARNING, ERROR")
        return level.upper()

    @property
    def is_embedded(self) -> bool:
        return not (self.database_url and self.redis_url)


def _with_scheme(url: str, schemes: set[str]) -> str:
    if url and urlsplit(url).scheme not in schemes:
        # The address itself may hold a password: it is not repeated.
        raise ValueError(f"must begin with {' or '.join(f'{name}://' for name in sorted(schemes))}")
    return url


@lru_cache(maxsize=1)
def load() -> Environment:
    """Read and check the environment once; exit with a sentence when a value cannot be used."""
    try:
        found = Environment()
        complete = found.model_copy(update=_embedded(found)) if found.is_embedded else found
    except ValidationError as wrong:
        lines = [_told(error) for error in wrong.errors(include_input=False)]
        sys.exit("Settings cannot be read from the environment:\n" + "\n".join(lines))
    except SettingsError as wrong:
        field = re.search(r'field "(\w+)"', str(wrong))
        sys.exit(f'{field[1].upper() if field else wrong} cannot be read: it has to be JSON, such as ["a", "b"].')
    except ServerProblem as problem:
        sys.exit(str(problem))
    for key in servers.KEYS:
        if not getattr(complete, key):
            sys.exit(
                f"{key.upper()} is not set. With servers of your own, put {SHORTEST_KEY} or more random characters"
                " into it and keep them; there is no default."
            )
    return complete


def _told(error: Mapping[str, Any]) -> str:
    return f"  {'.'.join(map(str, error['loc'])).upper()}: {error['msg'].removeprefix('Value error, ')}"


def _embedded(found: Environment) -> dict[str, Any]:
    """What `up` wrote down for processes that it did not start itself: addresses and keys. Never made here."""
    known = files.read_json(servers.endpoints_file(found.steadyhand_data_dir))
    known |= files.read_json(servers.secrets_file(found.steadyhand_data_dir))
    names = ("database_url", "redis_url", "steadyhand_secret_key", "steadyhand_audit_key")
    return {name: str(known[name]) for name in names if not getattr(found, name) and known.get(name)}
