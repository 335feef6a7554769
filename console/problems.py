"""Refusals an entry point answers with: a status, a title and a sentence with the way out (RFC 9457)."""

from __future__ import annotations

from typing import Any


class Problem(Exception):
    """Raised by verbs and entry points; the page answers `problem.html`, the API `application/problem+json`."""

    status = 400
    title = "Not possible"

    def __init__(self, detail: str, *, status: int | None = None, title: str | None = None, **extra: Any) -> None:
        super().__init__(detail)
        self.detail = detail
        self.status = status or self.status
        self.title = title or self.title
        self.extra = extra


class Invalid(Problem):
    """The input breaks a rule. `errors` maps a field to its sentence."""

    status = 422
    title = "Invalid input"

    def __init__(self, detail: str, *, errors: dict[str, str] | None = None) -> None:
        super().__init__(detail, errors=errors or {})


class Forbidden(Problem):
    status = 403
    title = "Not allowed"


class Missing(Problem):
    status = 404
    title = "Not found"


class Conflict(Problem):
    """The object has moved on since it was shown."""

    status = 409
    title = "Already changed"


class TooMany(Problem):
    """A rate or queue limit. `retry_after` is in whole seconds."""

    status = 429
    title = "Too many requests"

    def __init__(self, detail: str, *, retry_after: int) -> None:
        super().__init__(detail, retry_after=retry_after)
        self.retry_after = retry_after
