"""The one place where settings are read from the environment.

Every variable is listed here with its meaning; a value that cannot be used stops the process with the variable's name.
"""

from __future__ import annotations

import json
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

ROOT = Path(__file__).resolve().parent.parent


class Environment(BaseSettings):
    """What the process was told from outside. Names are upper case in the environment."""

    model_config = SettingsConfigDict(env_file=None, extra="ignore", frozen=True, env_ignore_empty=True)

    database_url: str = Field("", description="postgresql://user:password@host:port/name; empty: embedded PostgreSQL")
    redis_url: str = Field("", description="redis://:password@host:port/0; empty: embedded Valkey")
    steadyhand_secret_key: str = Field("", min_length=0, description="Signs sessions and forms; 50+ random characters")
    steadyhand_audit_key: str = Field("", description="Key of the audit chain; kept outside the database")
    steadyhand_data_dir: Path = Field(ROOT / ".steadyhand", description="Embedded servers keep their data here")
    steadyhand_debug: bool = False
    steadyhand_allowed_hosts: list[str] = ["localhost", "127.0.0.1", "[::1]"]
    steadyhand_base_url: str = "http://127.0.0.1:8000"
    steadyhand_environment: str = Field("Demo", description="Shown beside the name in the console")
    steadyhand_tools: list[str] = Field([], description="Modules with tools of your own, as a JSON list")
    steadyhand_https: bool = Field(False, description="Secure cookies, HSTS and redirect to https")
    steadyhand_log_level: str = "INFO"

    @property
    def is_embedded(self) -> bool:
        return not (self.database_url and self.redis_url)


def endpoints_file(data_dir: Path) -> Path:
    """Where `up` writes the addresses of its embedded servers (mode 0600)."""
    return data_dir / "endpoints.json"


@lru_cache(maxsize=1)
def load() -> Environment:
    """Read and check the environment once; exit with a sentence when a value cannot be used."""
    try:
        found = Environment()
    except ValidationError as wrong:
        lines = [f"  {'.'.join(map(str, e['loc'])).upper()}: {e['msg']}" for e in wrong.errors()]
        sys.exit("Settings cannot be read from the environment:\n" + "\n".join(lines))
    return found.model_copy(update=_embedded_endpoints(found))


def _embedded_endpoints(found: Environment) -> dict[str, Any]:
    file = endpoints_file(found.steadyhand_data_dir)
    if not file.exists():
        return {}
    known = json.loads(file.read_text())
    return {name: value for name, value in known.items() if not getattr(found, name)}
