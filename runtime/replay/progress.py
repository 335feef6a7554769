"""A line that updates on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from typing import TextIO

EVERY_S = 5.0


class Progress:
    def __init__(self, stream: TextIO, total: int) -> None:
        self.stream = stream
        self.total = total
        self.is_terminal = stream.isatty()
        self.started = self.shown_at = time.monotonic()
        self.show(0, 0, 0, now=True)

    def show(self, conversations: int, runs: int, errors: int, *, now: bool = False) -> None:
        """Say how far it is; on a terminal a few times a second, elsewhere every few seconds."""
        moment = time.monotonic()
        pause_s = 0.2 if self.is_terminal else EVERY_S
        if not now and moment - self.shown_at < pause_s and conversations < self.total:
            return
        self.shown_at = moment
        text = f"{conversations:,} of {self.total:,} conversations, {runs:,} runs, {moment - self.started:.0f} s"
        text += f", {errors:,} with errors" if errors else ""
        self.stream.write(f"\r\x1b[K{text}" if self.is_terminal else f"{text}\n")
        self.stream.flush()

    def end(self) -> None:
        if self.is_terminal:
            self.stream.write("\n")
            self.stream.flush()
