"""The documents keep up with the code."""

from __future__ import annotations

import re

import pytest
from django.conf import settings

from console.environment import Environment
from releases import bundles
from runtime.states import RUN_MOVES, RunStatus

DOCS = settings.BASE_DIR / "docs"
MODELS = (
    bundles.Bundle, bundles.ModelSpec, bundles.ToolManifest, bundles.Budgets, bundles.Daily, bundles.DailyLimits,
    bundles.Concurrency, bundles.Rule, bundles.Guardrail, bundles.Verification, bundles.Retries,
)  # fmt: skip


def test_every_setting_is_documented():
    text = (DOCS / "reference" / "settings.md").read_text()

    assert {f"`{name.upper()}`" for name in Environment.model_fields} - set(re.findall(r"`[A-Z_]+`", text)) == set()


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_every_field_of_a_bundle_is_documented(model):
    text = (DOCS / "reference" / "bundle.md").read_text()

    assert [name for name in model.model_fields if not re.search(rf"[`\"]{name}[`\"]", text)] == []


def test_the_readme_has_every_status_and_its_moves():
    text = (settings.BASE_DIR / "README.md").read_text()

    for status in RunStatus:
        row = re.search(rf"^\| {status} \| .* \| (.*)\|$", text, re.MULTILINE)
        assert row, status
        if row[1].strip() != "any other":
            assert {word for word in re.split(r"[,\s]+", row[1].strip()) if word} == set(RUN_MOVES[status])
    assert RUN_MOVES[RunStatus.RUNNING] == frozenset(RunStatus) - {RunStatus.RUNNING}


def test_links_between_documents_lead_somewhere():
    for page in [settings.BASE_DIR / "README.md", *DOCS.rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
