"""G10: from the click on Approve to the start of the call that waited for it, on an idle system.

    python -m tests.benchmarks.approve_to_step          CLICKS=40

A web server and a worker as processes. The click is the form's POST of a person who is signed in; the start is the
moment that the worker writes into the step of the call.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from tests.benchmarks import ground

CLICKS = ground.knob("CLICKS", 40)
REST_S = 0.2


def main() -> None:
    with ground.standing() as folder:
        ground.emit(benchmark="approve_to_step", clicks=CLICKS, **_measure(folder))


def _measure(folder: Path) -> dict[str, Any]:
    from console.roles import Role
    from tests import builders

    release = _release()
    web = ground.Web(folder)
    modules = json.dumps(["tests.benchmarks.scenes"])
    worker = ground.Process(folder, "worker", "--slot", "benchmark", says="is ready", STEADYHAND_TOOLS=modules)
    try:
        web.sign_in(builders.a_user(Role.ADMIN))
        worker.wait_until_said()
        found = [_click(web, release) for _ in range(CLICKS + 1)][1:]
    finally:
        web.process.stop()
        worker.stop()
    started, answered = [one[0] for one in found], [one[1] for one in found]
    return {
        "p50_ms": ground.ms(started, 0.5),
        "p95_ms": ground.ms(started, 0.95),
        "max_ms": ground.ms(started, 1.0),
        "answer_to_the_click_p50_ms": ground.ms(answered, 0.5),
    }


def _click(web: ground.Web, release: Any) -> tuple[float, float]:
    """Seconds from the click to the start of the call, and to the answer that the browser got."""
    from approvals.models import ApprovalRequest
    from console.actors import EVERY_SCOPE, Actor
    from runtime import runs
    from runtime.models import Step
    from runtime.states import StepKind

    starter = Actor("user", "benchmark", "Sam", frozenset({("runs.create", "*")}), frozenset({EVERY_SCOPE}))
    run, _ = runs.create(agent=release.agent.slug, text="Pay, please.", by=starter, principal_id="cus_1")
    asked = ApprovalRequest.objects.open().filter(subject_id__startswith=f"{run.public_id}:")
    ground.until(asked.exists)
    request = asked.get()
    time.sleep(REST_S)  # what happens after parking has ended
    clicked = time.time()
    took, status, body = web.post(
        f"/approvals/{request.public_id}/decide/",
        {"verdict": "approve", "version": str(request.version), "reason": "Fine."},
    )
    if status not in (200, 302, 303):
        raise RuntimeError(f"Approving was answered with {status}:\n{body[:1000].decode()}")
    calls = Step.objects.filter(run=run, kind=StepKind.TOOL)
    ground.until(calls.exists)
    return calls.get().started_at.timestamp() - clicked, took


def _release() -> Any:
    from runtime import tools
    from tests import builders
    from tests.benchmarks import scenes

    rule = {"id": "ask", "tool": scenes.TOOL, "then": "ask", "reason": "Somebody has to look at it."}
    return builders.a_release(
        model={"provider": "scripted", "name": scenes.SCRIPT},
        tools=[tools.known()[scenes.TOOL].manifest.model_dump(mode="json")],
        rules=[rule],
    )


if __name__ == "__main__":
    main()
