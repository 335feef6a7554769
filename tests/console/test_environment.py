from __future__ import annotations

import json

import pytest

from console import environment

KEY = "k" * 50
COMPLETE = {
    "DATABASE_URL": "postgresql://a:b@db/steadyhand",
    "REDIS_URL": "redis://cache/0",
    "STEADYHAND_SECRET_KEY": KEY,
    "STEADYHAND_AUDIT_KEY": KEY,
}


@pytest.fixture
def load(monkeypatch, tmp_path):
    """Reads the environment as a new process with exactly these variables would."""

    def read(**variables: str) -> environment.Environment:
        for name in environment.Environment.model_fields:
            monkeypatch.delenv(name.upper(), raising=False)
        monkeypatch.setenv("STEADYHAND_DATA_DIR", str(tmp_path))
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        environment.load.cache_clear()
        try:
            return environment.load()
        finally:
            environment.load.cache_clear()

    return read


def test_external_servers_with_keys_are_enough(load):
    found = load(**COMPLETE)

    assert found.database_url == COMPLETE["DATABASE_URL"]
    assert not found.is_embedded


@pytest.mark.parametrize("missing", ["STEADYHAND_SECRET_KEY", "STEADYHAND_AUDIT_KEY"])
def test_there_is_no_default_key(load, missing):
    with pytest.raises(SystemExit, match=f"{missing} is not set"):
        load(**{name: value for name, value in COMPLETE.items() if name != missing})


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("DATABASE_URL", "mysql://root:hunter2@db/x", "must begin with postgres://"),
        ("REDIS_URL", "localhost:6379", "must begin with redis://"),
        ("STEADYHAND_SECRET_KEY", "short", "has 5 characters"),
        ("STEADYHAND_ALLOWED_HOSTS", '{"a": 1}', "valid list"),
        ("STEADYHAND_DEBUG", "perhaps", "valid boolean"),
        ("STEADYHAND_LOG_LEVEL", "loud", "none of DEBUG"),
    ],
)
def test_a_value_that_cannot_be_used_is_named(load, name, value, told):
    with pytest.raises(SystemExit) as stopped:
        load(**COMPLETE | {name: value})

    assert f"{name}: " in str(stopped.value)
    assert told in str(stopped.value)
    assert "hunter2" not in str(stopped.value)


def test_a_list_that_is_no_json_is_named(load):
    with pytest.raises(SystemExit, match="STEADYHAND_ALLOWED_HOSTS"):
        load(**COMPLETE, STEADYHAND_ALLOWED_HOSTS="console.example.test")


def test_embedded_addresses_and_keys_come_from_the_data_directory(load, tmp_path):
    (tmp_path / "endpoints.json").write_text(json.dumps({"database_url": "postgresql://up", "redis_url": "redis://up"}))
    (tmp_path / "secrets.json").write_text(json.dumps({"steadyhand_secret_key": KEY, "steadyhand_audit_key": KEY}))

    found = load(REDIS_URL="redis://mine/0")

    assert (found.database_url, found.redis_url) == ("postgresql://up", "redis://mine/0")
    assert found.steadyhand_secret_key == KEY
