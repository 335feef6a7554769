from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import InterfaceError, OperationalError, connection

from approvals import requests
from approvals.models import ApprovalRequest
from approvals.states import ApprovalStatus, Verdict
from console import actors, problems
from runtime import runs
from runtime.models import Run
from runtime.shop import releasing, traffic
from runtime.states import FINAL

TELL_EVERY_S = 5.0
LOOK_EVERY_S = 1.0
SHORTEST_PAUSE_S = 0.02
AWAY = (OperationalError, InterfaceError)
CUSTOMERS = actors.system("demo traffic")
REVIEWER = actors.system("demo reviewer")
REASONS = ("The photo shows wear, not damage.", "Ask for the serial number first.", "This was paid back in the shop.")


@dataclass
class Tally:
    started: int = 0
    not_started: int = 0
    approved: int = 0
    rejected: int = 0
    last_refusal: str = ""

    def sentence(self) -> str:
        said = f"{self.started} runs started"
        if self.approved or self.rejected:
            said += f", {self.approved} approvals granted, {self.rejected} rejected"
        if self.not_started:
            said += f", {self.not_started} not started ({self.last_refusal})"
        return said


@dataclass
class Conversation:
    """A run whose customer will write again once it has ended."""

    run_id: UUID
    thread_id: UUID
    message: traffic.Message = field(repr=False)


class Command(BaseCommand):
    help = "Let customers of the demo shop write to the support agent. Ctrl-C stops it."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--rate", type=float, default=20.0, help="runs per minute (default: %(default)s)")
        parser.add_argument("--seconds", type=float, help="stop after so many seconds (default: until Ctrl-C)")
        parser.add_argument("--runs", type=int, help="stop after so many runs")
        parser.add_argument(
            "--approve-share",
            type=float,
            help="decide the approvals of these runs as a scripted reviewer: this share (0 to 1) is granted, the rest"
            " rejected. Without it they wait for a person",
        )
        parser.add_argument("--seed", type=int, help="draw the same messages again")

    def handle(self, *args: Any, **options: Any) -> None:
        rate, share = options["rate"], options["approve_share"]
        if not 0 < rate <= 6000:
            raise CommandError(f"--rate is {rate:g} runs per minute; it has to be above 0 and at most 6000.")
        if share is not None and not 0 <= share <= 1:
            raise CommandError(f"--approve-share is {share:g}; it has to lie between 0 and 1.")
        self.draw = random.Random(options["seed"])
        try:
            self.source = traffic.Source(self.draw)
        except AWAY as away:
            raise CommandError(f"PostgreSQL does not answer: {_first_line(away)}") from away
        self.tally = Tally()
        self.open: deque[Conversation] = deque(maxlen=200)
        self.is_away = False
        self.stdout.write(f"{rate:g} runs per minute to the agent {releasing.SLUG}. Ctrl-C stops.")
        try:
            self._go_on(60 / rate, options["seconds"], options["runs"], share)
        except KeyboardInterrupt:
            self.stdout.write("")
        self.stdout.write(f"Stopped: {self.tally.sentence()}.")

    def _go_on(self, every_s: float, seconds: float | None, most: int | None, share: float | None) -> None:
        began = time.monotonic()
        due, told, looked = began, began, began
        while (seconds is None or time.monotonic() - began < seconds) and (most is None or self.tally.started < most):
            moment = time.monotonic()
            if moment >= due:
                self._ask(self._write)
                due = max(due + every_s, moment - 1)  # after a stall, catch up a second's worth at most
            if moment - looked >= LOOK_EVERY_S:
                looked = moment
                self._ask(self._write_again)
                if share is not None:
                    self._ask(partial(self._decide, share))
            if moment - told >= TELL_EVERY_S:
                told = moment
                self.stdout.write(f"{moment - began:6.0f} s  {self.tally.sentence()}")
            left = seconds - (moment - began) if seconds is not None else LOOK_EVERY_S
            time.sleep(max(min(due - time.monotonic(), LOOK_EVERY_S, left), SHORTEST_PAUSE_S))

    def _ask(self, work: Callable[[], None]) -> None:
        """Do what needs the database. While it restarts, say so once; the next round tries again."""
        try:
            work()
        except AWAY as away:
            connection.close()
            if not self.is_away:
                self.stdout.write(f"PostgreSQL does not answer: {_first_line(away)} Traffic goes on when it does.")
            self.is_away = True
            time.sleep(LOOK_EVERY_S)
            return
        if self.is_away:
            self.stdout.write("PostgreSQL answers again.")
        self.is_away = False

    def _write(self) -> None:
        """One customer writes his first message."""
        message = self.source.next()
        if message is None:
            raise CommandError("The demo shop is empty. Fill it first: manage.py demo_data")
        run = self._start(message, message.text, None)
        if run is not None and message.follow_up:
            self.open.append(Conversation(run.pk, run.thread_id, message))

    def _write_again(self) -> None:
        """Customers whose first run has ended go on in the same thread."""
        written = Run.objects.filter(pk__in=[conversation.run_id for conversation in self.open])
        ended = set(written.filter(status__in=FINAL).values_list("pk", flat=True))
        for conversation in [c for c in self.open if c.run_id in ended]:
            self.open.remove(conversation)
            self._start(conversation.message, conversation.message.follow_up, conversation.thread_id)

    def _start(self, message: traffic.Message, text: str, thread_id: UUID | None) -> Run | None:
        try:
            run, _ = runs.create(
                agent=releasing.SLUG,
                text=text,
                by=CUSTOMERS,
                principal_id=message.customer,
                principal_label=message.name,
                thread_id=thread_id,
            )
        except problems.Missing as missing:
            raise CommandError(f"{missing.detail} Make it first: manage.py demo_data") from missing
        except problems.Problem as problem:
            self.tally.not_started += 1
            self.tally.last_refusal = problem.detail
            return None
        self.tally.started += 1
        return run

    def _decide(self, share: float) -> None:
        """Answer what the runs of this traffic ask, as far as nobody else has."""
        waiting = ApprovalRequest.objects.filter(
            status=ApprovalStatus.PENDING, agent=releasing.SLUG, requested_by=CUSTOMERS.id
        )
        for request in waiting.order_by("created_at")[:20]:
            granted = self.draw.random() < share
            verdict = Verdict.APPROVE if granted else Verdict.REJECT
            reason = "Looks right." if granted else self.draw.choice(REASONS)
            try:
                requests.decide(request.pk, verdict, by=REVIEWER, reason=reason)
            except problems.Problem:
                continue  # a person was faster, or holds it
            self.tally.approved += granted
            self.tally.rejected += not granted


def _first_line(away: Exception) -> str:
    return f"{(str(away).splitlines() or ['no reason was given'])[0].rstrip('.')}."
