"""What went wrong at a vendor, in our codes: which failures may pass, and what people are told."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from pydantic_ai import exceptions as theirs

from console import redact
from releases.bundles import ModelSpec
from runtime.providers.base import ProviderError

log = logging.getLogger(__name__)

LONGEST_WAIT_S = 3600.0
LONGEST_MESSAGE = 500
PASSING_STATUS = frozenset({408, 409, 425})

# The first class that fits decides; subclasses stand before their parents.
CODES: tuple[tuple[type[Exception], str, bool], ...] = (
    (theirs.ModelRateLimitError, "rate_limited", True),
    (theirs.ModelQuotaExceededError, "quota_exhausted", False),
    (theirs.ModelUnavailableError, "unavailable", True),
    (theirs.ModelServerError, "unavailable", True),
    (theirs.ModelRequestTimeout, "timeout", True),
    (theirs.ModelTimeoutError, "timeout", True),
    (theirs.ModelConnectionError, "unavailable", True),
    (theirs.ModelContextWindowExceededError, "too_long", False),
    (theirs.ModelAuthenticationError, "unauthorized", False),
    (theirs.ModelRequestRejectedError, "bad_request", False),
)


class NotTheirsError(Exception):
    """Carries a failure of our own code past the mapping of the vendor's."""

    def __init__(self, wrong: Exception) -> None:
        super().__init__(str(wrong))
        self.wrong = wrong


@contextmanager
def mapped(spec: ModelSpec, key: str) -> Iterator[None]:
    """Whatever a vendor's package raises leaves as a ProviderError."""
    try:
        yield
    except (ProviderError, NotTheirsError):
        raise
    except Exception as wrong:
        # The chain below holds the request with its headers; it must not reach a log.
        raise failure(wrong, spec, key) from None


def failure(wrong: Exception, spec: ModelSpec, key: str) -> ProviderError:
    code, retry = _code(wrong)
    wait = getattr(wrong, "retry_after", None)
    if wait is not None:
        wait = min(max(float(wait), 0.0), LONGEST_WAIT_S)
    told = redact.text(_told(wrong).replace(key, redact.MASK))
    return ProviderError(
        code, f"{spec.provider} {spec.name}: {told[:LONGEST_MESSAGE]}", retry=retry, retry_after_s=wait
    )


def _code(wrong: Exception) -> tuple[str, bool]:
    for kind, code, retry in CODES:
        if isinstance(wrong, kind):
            return code, retry
    if isinstance(wrong, theirs.ModelHTTPError):
        passing = wrong.status_code >= 500 or wrong.status_code in PASSING_STATUS
        return ("unavailable", True) if passing else ("bad_request", False)
    if isinstance(wrong, theirs.UserError) or _is_redirect(wrong):
        return "bad_request", False
    # A reply that cannot be read: not JSON, cut off, or of a shape that makes the vendor's package stumble.
    return "bad_reply", True


def _is_redirect(wrong: Exception) -> bool:
    return 300 <= getattr(wrong.__cause__, "status_code", 0) < 400


def _told(wrong: Exception) -> str:
    if _is_redirect(wrong):
        return "the server redirects to another address. Redirects are not followed; correct base_url."
    if isinstance(wrong, theirs.ModelHTTPError):
        body = wrong.body
        if isinstance(body, dict):
            inner = body.get("error", body)
            body = inner.get("message", inner) if isinstance(inner, dict) else inner
        return f"status {wrong.status_code}: {body}" if body else f"status {wrong.status_code}"
    return str(wrong) or type(wrong).__name__
