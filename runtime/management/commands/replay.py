"""`manage.py replay`: run recorded conversations through the runtime. See docs/how-to/replay-conversations.md."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from runtime.replay import agents, declared, figures, planning
from runtime.replay.figures import Figures
from runtime.replay.planning import Plan
from runtime.replay.progress import Progress
from runtime.replay.replaying import Approver, Replaying, Tally

INTERRUPTED = 130
MOST_ERRORS_SHOWN = 20


def _number(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 1_000_000_000:
        raise ArgumentTypeError(f"{text!r} is no whole number from 1 on")
    return int(text)


class Command(BaseCommand):
    help = "Run recorded conversations through the runtime: a conversation is a thread, each user turn a run."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", type=Path, help="recorded conversations, one JSON object per line")
        parser.add_argument(
            "--tools", type=Path, required=True, help="JSON file that declares the tools of each domain"
        )
        parser.add_argument("--domain", default="", help="only conversations of this domain")
        parser.add_argument("--limit", type=_number, help="at most this many conversations")
        parser.add_argument(
            "--approver",
            choices=[choice.value for choice in Approver],
            default=Approver.LEAVE.value,
            help="who answers when a write asks a person: grant or deny them all, or leave them to people (default)",
        )
        parser.add_argument("--concurrency", type=_number, default=8, help="conversations at once (default 8)")
        parser.add_argument("--json", action="store_true", help="print one line of JSON instead of the table")

    def handle(self, *args: Any, **options: Any) -> None:
        started = time.monotonic()
        try:
            plan = _plan(options)
            tally = _replay(options, plan)
        except KeyboardInterrupt:  # before the replay could stop in order, or a second time
            self.stderr.write("Stopped at once. Runs in flight are free for workers again when their lease ends.")
            sys.exit(INTERRUPTED)
        counted = figures.of(tally.threads)
        seconds = round(time.monotonic() - started, 2)
        result = summary(plan, tally, counted, seconds)
        if options["json"]:
            self.stdout.write(json.dumps(result))
        else:
            self.stdout.write(table(result))
        if tally.interrupted:
            sys.exit(INTERRUPTED)
        if tally.errors:
            sys.exit(1)


def _plan(options: Mapping[str, Any]) -> Plan:
    try:
        tools = declared.load(options["tools"])
        policies = agents.policies_beside(options["file"], options["tools"])
        plan = planning.plan(options["file"], tools, policies, domain=options["domain"], limit=options["limit"])
    except declared.BadTools as wrong:
        raise CommandError(str(wrong)) from wrong
    except OSError as wrong:
        raise CommandError(f"{options['file']} cannot be read: {wrong.strerror}.") from wrong
    if not plan.conversations and not plan.unusable:
        of = f" of domain {options['domain']!r}" if options["domain"] else ""
        raise CommandError(f"{options['file']} holds no conversations{of}.")
    return plan


def _replay(options: Mapping[str, Any], plan: Plan) -> Tally:
    progress = Progress(sys.stderr, plan.conversations)
    replaying = Replaying(
        options["file"],
        plan,
        approver=Approver(options["approver"]),
        concurrency=options["concurrency"],
        progress=lambda tally: progress.show(tally.replayed, tally.runs, len(tally.errors)),
    )
    asyncio.run(_until_interrupted(replaying))
    progress.end()
    return replaying.tally


async def _until_interrupted(replaying: Replaying) -> None:
    """The first Ctrl-C stops in order: runs in flight are given back. A second one is Python's own."""
    loop = asyncio.get_running_loop()

    def stop() -> None:
        replaying.stop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    await replaying.run()


def summary(plan: Plan, tally: Tally, counted: Figures, seconds: float) -> dict[str, Any]:
    """What `--json` prints."""
    return {
        "conversations": len(tally.threads),
        "conversations_in_file": plan.conversations + len(plan.unusable),
        "runs": dict(counted.runs),
        "causes": dict(counted.causes.most_common()),
        "model_calls": counted["model_calls"],
        "tool_calls": dict(counted.tool_calls),
        "tool_errors": counted["tool_errors"],
        "approvals_asked": counted["approvals_asked"],
        "approvals_answered": dict(counted.approvals),
        "approvals_per_conversation": _ratio(counted["approvals_asked"], len(tally.threads)),
        "writes": dict(counted.writes.most_common()),
        "writes_justified": _ratio(
            counted.writes[figures.JUSTIFIED] + counted.writes[figures.NOTHING_READ], counted.writes.total()
        ),
        "loops_stopped": counted.causes["loop-guard"],
        "tokens": {
            "input": counted["input_tokens"],
            "cached": counted["cached_tokens"],
            "output": counted["output_tokens"],
        },
        "cost_usd": float(round(counted.sums["cost_usd"], 6)),
        "model_calls_by_cost_basis": dict(counted.cost_basis),
        "seconds": seconds,
        "turns_not_run": sum(tally.turns_not_run.values()),
        "turns_not_run_because": tally.turns_not_run,
        "skipped": {
            "greetings": tally.greetings,
            "calls_by_the_user": tally.user_calls,
            "results_without_a_call": tally.stray_results,
        },
        "errors": [{"id": name, "reason": reason} for name, reason in tally.errors.items()],
        "interrupted": tally.interrupted,
    }


def _ratio(part: int, whole: int) -> float | None:
    return round(part / whole, 4) if whole else None


def _share(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.1%}"


def table(result: Mapping[str, Any]) -> str:
    """The same for people."""
    tokens, runs, per = result["tokens"], result["runs"], result["approvals_per_conversation"]
    rows = [
        ("Conversations", f"{result['conversations']:,} of {result['conversations_in_file']:,}"),
        ("Runs", f"{sum(runs.values()):,}"),
        *((f"  {status}", f"{count:,}") for status, count in sorted(runs.items(), key=lambda item: -item[1])),
        ("Why they ended", ""),
        *((f"  {cause}", f"{count:,}") for cause, count in result["causes"].items()),
        ("Model calls", f"{result['model_calls']:,}"),
        ("Tool calls", f"{sum(result['tool_calls'].values()):,}"),
        *((f"  {verdict}", f"{count:,}") for verdict, count in result["tool_calls"].items() if count),
        ("  with an error", f"{result['tool_errors']:,}"),
        ("Approvals asked", f"{result['approvals_asked']:,}"),
        *((f"  {answer}", f"{count:,}") for answer, count in result["approvals_answered"].items() if count),
        ("  per conversation", "-" if per is None else f"{per:,.2f}"),
        ("Writes on somebody's word", _share(result["writes_justified"])),
        *((f"  {rule}", f"{count:,}") for rule, count in result["writes"].items()),
        ("Loops stopped", f"{result['loops_stopped']:,}"),
        ("Tokens in / cached / out", f"{tokens['input']:,} / {tokens['cached']:,} / {tokens['output']:,}"),
        ("Cost", f"${result['cost_usd']:,.4f}"),
        *((f"  calls {basis}", f"{count:,}") for basis, count in result["model_calls_by_cost_basis"].items()),
        ("Turns not run", f"{result['turns_not_run']:,}"),
        *((f"  {reason}", f"{count:,}") for reason, count in result["turns_not_run_because"].items()),
        ("Seconds", f"{result['seconds']:,}"),
    ]
    width = max(len(name) for name, _ in rows) + 2
    lines = [f"{name:<{width}}{value:>24}".rstrip() for name, value in rows]
    return "\n".join([*lines, *_errors(result["errors"]), *_interrupted(result)])


def _errors(errors: list[Mapping[str, str]]) -> list[str]:
    if not errors:
        return []
    shown = [f"  {error['id']}: {error['reason']}" for error in errors[:MOST_ERRORS_SHOWN]]
    more = len(errors) - len(shown)
    tail = [f"  and {more:,} more (--json lists them all)"] if more else []
    return ["", f"Not replayed, or not to the end: {len(errors):,}", *shown, *tail]


def _interrupted(result: Mapping[str, Any]) -> list[str]:
    return ["", "Interrupted: the figures are those of what was done until then."] if result["interrupted"] else []
