"""What chaos found, for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MOST_NAMED = 10  # places of one fault that are printed


def table(report: Mapping[str, Any]) -> str:
    """Figures first, then the four numbers that have to be 0, then what was found where."""
    servers = ", ".join(report["servers_restarted"]) or "none: they are not ours"
    rows = [
        ("Seed", f"{report['seed']}"),
        ("Kills", f"{report['kills']:,}"),
        *((f"  {name}", f"{number:,}") for name, number in report["faults"].items()),
        ("Servers that were restarted", servers),
        ("Workers started", f"{report['worker_starts']:,}"),
        ("Runs accepted", f"{report['accepted']:,}"),
        *((f"  {name}", f"{number:,}") for name, number in sorted(report["ends"].items())),
        ("Questions answered", ""),
        *((f"  {name}", f"{number:,}") for name, number in report["answers"].items()),
        ("Effects", f"{report['effects']:,}"),
        ("Runs taken over", f"{report['takeovers']:,}"),
        ("Calls made again with their key", f"{report['calls_made_again']:,}"),
        ("Calls parked as unknown", f"{report['unknown']:,}"),
        ("Seconds of faults / to settle", f"{report['storm_s']:,} / {report['settled_s'] or 'did not settle'}"),
        ("Lost", f"{report['lost']:,}"),
        ("Duplicated", f"{report['duplicated']:,}"),
        ("Stuck", f"{report['stuck']:,}"),
        ("Faults in the journal", f"{report['journal']:,}"),
    ]
    width = max(len(name) for name, _ in rows) + 2
    lines = [f"{name:<{width}}{value:>14}".rstrip() for name, value in rows]
    for words, places in report["found"].items():
        lines += ["", f"{words}: {len(places):,}", *(f"  {place}" for place in places[:MOST_NAMED])]
    return "\n".join([*lines, report.get("last_words", "")]).rstrip()


def is_clean(report: Mapping[str, Any]) -> bool:
    return not any(report[name] for name in ("lost", "duplicated", "stuck", "journal"))
