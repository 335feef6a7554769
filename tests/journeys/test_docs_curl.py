"""The commands of docs/how-to/use-the-api-with-curl.md, run one after the other as a reader would."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from datetime import timedelta
from decimal import Decimal

import pytest
from django.conf import settings

from console import tokens
from console.models import User
from runtime.models import Run
from runtime.shop.models import Refund
from runtime.states import RunStatus
from telemetry.models import Feedback

GUIDE = settings.BASE_DIR / "docs/how-to/use-the-api-with-curl.md"
PROGRAMS = ("bash", "curl", "jq")
# Every command has to succeed, except those that show what a refusal looks like.
PROLOGUE = 'set -euo pipefail\ncurl() { command curl --fail-with-body "$@"; }\n'
SHOWS_A_REFUSAL = '"inptu"'

pytestmark = pytest.mark.skipif(
    not all(map(shutil.which, PROGRAMS)), reason=f"The guide needs {', '.join(PROGRAMS)}, and one is not installed."
)


@pytest.fixture(scope="module")
def output(console_url: str) -> dict[str, str]:
    """What each block printed, by the heading it stands under."""
    text = GUIDE.read_text()
    scopes = re.findall(
        r"`([a-z]+\.[a-z]+)`", text[text.index("This token was made") : text.index("export STEADYHAND")]
    )
    owner = User.objects.get(email="tomas@example.com")
    _, token = tokens.create(by=owner.actor(), name="the guide", scopes=scopes, expires_in=timedelta(hours=1))

    blocks = re.findall(r"^## ([^\n]+)|^```sh\n(.*?)^```", text, re.M | re.S)
    heading, script = "", PROLOGUE
    for title, commands in blocks:
        heading = title or heading
        if commands:
            plain = "unset -f curl\n" if SHOWS_A_REFUSAL in commands else ""
            script += f"echo '@@ {heading}'\n{plain}{commands}\n"
    done = subprocess.run(
        ["bash", "-c", script],
        env={**os.environ, "STEADYHAND": console_url, "TOKEN": token},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    found: dict[str, str] = {}
    for part in done.stdout.split("@@ ")[1:]:
        title, _, rest = part.partition("\n")
        found[title] = found.get(title, "") + rest
    return found


def test_the_guide_refunds_the_edited_amount_once(output: dict[str, str]) -> None:
    key = output["Start a run"].split()[0]
    run = next(run for run in Run.objects.filter(idempotency_key="ticket-4711"))

    assert run.public_id == key
    assert run.status == RunStatus.SUCCEEDED
    assert [refund.amount_usd for refund in Refund.objects.filter(order__number=10669)] == [Decimal("80.00")]
    assert "80.00" in output["Read the result"]
    assert Feedback.objects.get(run=run).score == 1


def test_each_part_of_the_guide_shows_what_the_text_says(output: dict[str, str]) -> None:
    assert output["Start a run"].split()[1] == "200"
    assert "event: run.waiting" in output["Follow it"]
    assert "id: 6" in output["Follow it"]
    assert '"amount"' in output["Decide its approval"]
    assert output["Stop a tool"].split("\n")[:2] == ["issue_refund is off", "false"]
    assert '"status": "cancelled"' in output["Cancel a run"]
    assert "There is no such field" in output["What errors are like"]
