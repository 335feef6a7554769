from __future__ import annotations

import gc

import django_rq
import pytest
from django.conf import settings
from django.core.cache import cache
from pytest_django import DjangoDbBlocker

from console import queue
from tests import servers, tables


def pytest_configure() -> None:
    """What would only slow tests down: hashed names of static files, hashing of passwords, truncated tables."""
    settings.STORAGES = {
        **settings.STORAGES,
        "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
    }
    # Connections of threads end with their work, so that the test database can be dropped.
    settings.DATABASES["default"]["CONN_MAX_AGE"] = 0
    servers.own_channels()
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    tables.empty_after_each_test()


def pytest_collection_finish() -> None:
    """Look for garbage as rarely as `manage.py` does, and never again among the thousands of tests."""
    gc.set_threshold(50_000, 20, 10)
    gc.freeze()


@pytest.fixture(scope="session")
def django_db_modify_db_settings(django_db_modify_db_settings_parallel_suffix: None) -> None:
    tables.wait_for_a_copy()


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> None:
    with django_db_blocker.unblock():
        tables.offer_a_copy()


@pytest.fixture(autouse=True)
def empty_redis() -> None:
    """Every test finds an empty queue."""
    django_rq.get_connection(queue.CHORES).flushdb()


@pytest.fixture(autouse=True)
def no_alarm() -> None:
    """Every page finds a calm queue, without asking for it: its number of queries is the same whenever it is opened."""
    from runtime import health

    cache.set(health.ALARM_KEY, health.CALM, 3600)
