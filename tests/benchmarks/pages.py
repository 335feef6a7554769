"""G13 and G14: pages over many runs, from the real web server.

    python -m tests.benchmarks.pages        RUNS=1000000 STEPS=10 LONG=10000 ASKED=40

The rows are generated in the database: RUNS runs of STEPS steps with their payloads over 30 days, and one run of LONG
steps. For each page: the time to the first byte over HTTP (p50, p95, and the first and cold one) and its queries. A
million runs need about 15 GB and half an hour to make.
"""

from __future__ import annotations

import html
import re
import time
from pathlib import Path
from typing import Any

from tests.benchmarks import ground, many_rows

RUNS = ground.knob("RUNS", 1_000_000)
STEPS = ground.knob("STEPS", 10)
LONG = ground.knob("LONG", 10_000)
ASKED = ground.knob("ASKED", 40)


def main() -> None:
    with ground.standing() as folder:
        began = time.monotonic()
        made = many_rows.fill(RUNS, STEPS, LONG)
        filled_s = round(time.monotonic() - began)
        many_rows.tell(f"The rows were made in {filled_s} s.")
        found = _measure(folder, made)
        ground.emit(
            benchmark="pages", runs=RUNS, steps=RUNS * STEPS + LONG, filled_s=filled_s, asked=ASKED, pages=found
        )


def _measure(folder: Path, made: many_rows.Made) -> dict[str, Any]:
    from django.test import Client

    from console.roles import Role
    from tests import builders

    person = builders.a_user(Role.ADMIN)
    browser = Client(HTTP_HOST="127.0.0.1")
    browser.force_login(person)
    web = ground.Web(folder)
    try:
        web.sign_in(person)
        found = {}
        for name, path in _paths(web, made).items():
            found[name] = _page(web, path) | {"queries": _queries(browser, path)}
            many_rows.tell(f"{name}: {found[name]}")
        return found
    finally:
        web.process.stop()


def _paths(web: ground.Web, made: many_rows.Made) -> dict[str, str]:
    return {
        "run list": "/runs/",
        "run list, next page": _next_page(web),
        "failed, last week": "/runs/?status=failed&since=week",
        "one tool, escalated": "/runs/?tool=issue_refund&status=escalated",
        "costly": "/runs/?cost=0.05",
        "search by words": "/runs/?q=broken+lamp",
        "search by id": f"/runs/?q={made.run.public_id}",
        f"trace of {STEPS} steps": f"/runs/{made.run.public_id}/",
        f"trace of {LONG} steps": f"/runs/{made.long_run.public_id}/",
        "payload of a step": f"/runs/{made.long_run.public_id}/steps/{made.step.public_id}/",
        "approvals": "/approvals/",
        "overview": "/overview/",
        "queue health": "/queue/",
        "deliveries": "/deliveries/",
    }


def _page(web: ground.Web, path: str) -> dict[str, Any]:
    asked = [web.get(path) for _ in range(ASKED + 1)]
    took = [seconds for seconds, _, _ in asked[1:]]
    _, status, body = asked[-1]
    return {
        "status": status,
        "p50_ms": ground.ms(took, 0.5),
        "p95_ms": ground.ms(took, 0.95),
        "first_ms": ground.ms([asked[0][0]], 0),
        "kb": round(len(body) / 1024),
    }


def _queries(browser: Any, path: str) -> int:
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    browser.get(path)
    with CaptureQueriesContext(connection) as queries:
        browser.get(path)
    return len(queries)


def _next_page(web: ground.Web) -> str:
    """The address behind the link to older runs."""
    _, status, body = web.get("/runs/")
    link = re.search(r'href="(?:/runs/)?(\?[^"]*before=[^"]*)"', body.decode())
    if link is None:
        raise RuntimeError(f"The list of runs has no link to older ones (status {status}):\n{body[:2000].decode()}")
    return f"/runs/{html.unescape(link[1])}"


if __name__ == "__main__":
    main()
