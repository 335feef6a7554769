"""Log lines without secrets: tokens, keys and passwords are masked in messages and tracebacks alike."""

from __future__ import annotations

import logging

from console import redact


class Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return redact.text(super().format(record))
