from __future__ import annotations

import io
import logging
import logging.config

import pytest
from django.conf import settings

TOKEN = "sth_abcdefgh_" + "x" * 43


@pytest.fixture
def written(monkeypatch):
    """What our configuration writes, whatever its handlers' stream."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    configured = logging.config.DictConfigurator(settings.LOGGING)
    handler.setFormatter(configured.configure_formatter(dict(settings.LOGGING["formatters"]["plain"])))
    log = logging.getLogger("tests.logs")
    monkeypatch.setattr(log, "handlers", [handler])
    monkeypatch.setattr(log, "propagate", False)
    return log, stream


def test_a_secret_in_an_address_or_an_error_is_masked(written):
    log, stream = written

    log.error('"GET /api/v1/runs?token=%s HTTP/1.1" 400', TOKEN)
    try:
        raise ValueError(f"bad header: Bearer {TOKEN}")
    except ValueError:
        log.exception("It failed")

    assert TOKEN not in stream.getvalue()
    assert "/api/v1/runs?token=" in stream.getvalue()
    assert "ValueError" in stream.getvalue()
