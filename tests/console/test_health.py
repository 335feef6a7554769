from __future__ import annotations

import django_rq.settings
import pytest
from django.db import connection
from django.test import Client

from console import health, queue
from console.embedded import start

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def ask_again(monkeypatch):
    monkeypatch.setattr(health, "_migrated", False)


@pytest.fixture
def absent_redis(monkeypatch):
    monkeypatch.setitem(django_rq.settings.QUEUES[queue.CHORES], "URL", "redis://127.0.0.1:1/0")


def test_alive_asks_nobody(client, django_assert_num_queries, absent_redis):
    with django_assert_num_queries(0):
        answer = client.get("/healthz")

    assert (answer.status_code, answer.json()) == (200, {"status": "alive"})


def test_a_console_that_up_has_started_says_by_which_start(client, settings):
    assert start.HEADER not in client.get("/healthz").headers

    settings.START = "a1b2"

    assert client.get("/healthz").headers[start.HEADER] == "a1b2"


def test_ready_names_each_dependency(client):
    answer = client.get("/readyz")

    assert answer.status_code == 200
    found = answer.json()
    assert {name: check["status"] for name, check in found["checks"].items()} == {
        "database": "ok",
        "migrations": "ok",
        "redis": "ok",
    }
    assert found["workers"] == {"alive": 0, "last_heartbeat_at": None}
    assert answer["Cache-Control"] == "no-store"


def test_an_absent_redis_makes_it_not_ready_and_gives_nothing_away(client, absent_redis):
    answer = client.get("/readyz")

    assert answer.status_code == 503
    assert answer.json()["checks"]["redis"]["status"] == "down"
    assert answer.json()["checks"]["database"]["status"] == "ok"
    assert b"127.0.0.1" not in answer.content


def test_a_missing_migration_makes_it_not_ready(client):
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM django_migrations WHERE app = 'console'")

    answer = client.get("/readyz")

    assert answer.status_code == 503
    assert answer.json()["checks"]["migrations"]["status"] == "missing"


def test_a_probe_needs_no_host_name_and_no_https(settings):
    settings.SECURE_SSL_REDIRECT = True

    answer = Client(headers={"host": "10.1.2.3"}).get("/readyz")

    assert answer.status_code == 200
