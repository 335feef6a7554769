"""The documents keep up with the code."""

from __future__ import annotations

import re
from collections import Counter
from functools import cache
from pathlib import Path

import pytest
from django.conf import settings
from django.core.management import get_commands, load_command_class

from console import roles
from console.api import api
from console.environment import Environment
from console.roles import Role
from releases import bundles
from releases.policies import expressions
from releases.states import EFFECTS_OF_SCOPE
from runtime import labels
from runtime.states import RUN_MOVES, CallbackEvent, RunStatus

ROOT = settings.BASE_DIR
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
MODELS = (
    bundles.Bundle, bundles.ModelSpec, bundles.ToolManifest, bundles.Budgets, bundles.Daily, bundles.DailyLimits,
    bundles.Concurrency, bundles.Rule, bundles.Guardrail, bundles.Verification, bundles.Retries, bundles.RollbackOn,
)  # fmt: skip
APPS = ("console", "approvals", "releases", "runtime", "telemetry")
SHARED_OPTIONS = {
    "--help", "--version", "--verbosity", "--settings", "--pythonpath", "--traceback", "--no-color", "--force-color",
    "--skip-checks",
}  # fmt: skip
FROM_DJANGO = {"changepassword", "check", "collectstatic", "migrate", "shell"}


def test_every_setting_is_documented():
    text = read("reference/settings.md")

    assert {f"`{name.upper()}`" for name in Environment.model_fields} - set(re.findall(r"`[A-Z_]+`", text)) == set()


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_every_field_of_a_bundle_is_documented(model):
    text = read("reference/bundle.md")

    assert [name for name in model.model_fields if not re.search(rf"[`\"]{name}[`\"]", text)] == []


def test_the_readme_has_every_status_and_its_moves():
    text = (ROOT / "README.md").read_text()

    for status in RunStatus:
        row = re.search(rf"^\| {status} \| .* \| (.*)\|$", text, re.MULTILINE)
        assert row, status
        if row[1].strip() != "any other":
            assert {word for word in re.split(r"[,\s]+", row[1].strip()) if word} == set(RUN_MOVES[status])
    assert RUN_MOVES[RunStatus.RUNNING] == frozenset(RunStatus) - {RunStatus.RUNNING}


def test_the_index_has_every_page_once():
    listed = Counter(re.findall(r"\]\(([^)#:]+\.md)\)", read("README.md")))

    assert listed == {str(page.relative_to(DOCS)): 1 for page in PAGES[1:] if page != DOCS / "README.md"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path):
    wrong = []
    for target, anchor in re.findall(r"\]\(([^)#:\s]*)(?:#([^)]*))?\)", page.read_text()):
        there = page.parent / target if target else page
        if not there.exists() or (anchor and anchor not in anchors(there)):
            wrong.append(f"{target}#{anchor}")

    assert wrong == []


def test_the_table_of_permissions_is_that_of_the_code():
    rows = re.findall(r"^\| `([a-z.]+)` \| (.+?) \|((?:[ x]+\|){5})$", read("reference/permissions.md"), re.MULTILINE)
    columns = [Role.SUPPORT, Role.OPERATOR, Role.MANAGER, Role.ADMIN, Role.AUDITOR]
    told = {
        name: (label, {role for role, cell in zip(columns, cells.split("|"), strict=False) if cell.strip()})
        for name, label, cells in rows
    }

    ours = {name: label for name, label in roles.declared().items() if not name.startswith("lamps.")}  # a test's own
    assert told == {name: (label, set(roles.holders(name))) for name, label in ours.items()}


def test_scopes_of_the_api_are_permissions():
    table = read("reference/api.md").partition("| Scope |")[2].partition("\n\n")[0]
    named = {name for row in re.findall(r"^\| (.*?) \|", table, re.MULTILINE) for name in re.findall(r"`(.*?)`", row)}

    assert len(named) > 10
    assert named - set(roles.declared()) == set()


def test_every_command_of_ours_is_documented_with_its_options():
    text = read("reference/commands.md")
    ours = {name for name, app in get_commands().items() if str(app).split(".")[0] in APPS} | {"up", "test"}

    assert ours - set(re.findall(r"`([a-z_]+)\b", text)) == set()
    elsewhere = {"bench": read("reference/bench.md"), "chaos": read("reference/chaos.md")}
    for name in sorted(ours - {"test"}):
        missing = options_of(name) - set(re.findall(r"--[a-z-]+", elsewhere.get(name, text)))
        assert missing == set(), name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_and_their_options_exist(page: Path):
    for line in re.findall(r"manage\.py ([a-z_]+[^\n`|\"]*)", page.read_text().replace("\\\n", " ")):
        words = line.split(" #")[0].split("&&")[0].split()
        if words[0] in FROM_DJANGO:
            continue
        assert words[0] in get_commands() or words[0] == "up", line
        wrong = {word for word in words if word.startswith("--")} - options_of(words[0])
        assert wrong == set() or words[0] == "test", line


def test_variables_that_are_named_exist():
    known = {name.upper() for name in Environment.model_fields} | set(
        re.findall(r"\bSTEADYHAND_[A-Z_]+", sources("py"))
    )
    for page in PAGES:
        assert set(re.findall(r"\bSTEADYHAND_[A-Z_]+\b", page.read_text())) - known == set(), page.name


def test_files_and_tests_that_are_named_exist():
    for page in PAGES:
        last = ""
        for path, test in re.findall(r"`([\w/]+\.py)?(?:::(\w+))?`", page.read_text()):
            last = path or last
            if not path and not test:
                continue
            found = [base / last for base in (ROOT, ROOT / "tests") if "/" in last and (base / last).exists()]
            assert found or "/" not in last, f"{page.name}: {path}"
            assert not test or f"def {test}(" in found[0].read_text(), f"{page.name}: {test}"


def test_operations_that_are_named_exist():
    schema = api.get_openapi_schema()
    known = {
        (method.upper(), re.sub(r"\{\w+\}", "{}", path.removeprefix("/api/v1")))
        for path, methods in schema["paths"].items()
        for method in methods
    }
    for page in PAGES:
        for method, path in re.findall(r"\b(GET|POST) (?:/api/v1)?(/[a-z][\w/{}…-]*)", page.read_text()):
            told = (method, re.sub(r"\{\w+\}|\w+_…", "{}", path).rstrip("/"))
            assert told in known or path.startswith("/your/"), f"{page.name}: {method} {path}"


def test_every_cause_wait_and_event_is_documented():
    causes = read("reference/causes.md")
    assert [code for code in labels.CAUSES if f"`{code}`" not in causes] == []

    waits = set(re.findall(r"^\| `(\w+)` \|", read("how-to/recover-from-failures.md"), re.MULTILINE))
    ending = {"budget"}  # a run whose budget is used up ends instead of waiting
    assert waits - {"wait_reason"} == {str(reason) for reason in labels.REASONS} - ending

    events = read("how-to/receive-callbacks.md")
    assert [event for event in CallbackEvent if f"`{event}`" not in events] == []


def test_every_switch_and_function_of_rules_is_documented():
    switches = read("how-to/pull-a-kill-switch.md")
    assert [effect for effect in set().union(*EFFECTS_OF_SCOPE.values()) if f"`{effect}`" not in switches] == []
    assert [scope for scope in EFFECTS_OF_SCOPE if f"`{scope}`" not in switches] == []

    rules = read("how-to/write-a-rule.md")
    functions = {name for name in expressions.METHODS if not name.startswith("get")} | expressions.FUNCTIONS - {"type"}
    assert [name for name in sorted(functions | expressions.MACROS) if f"`{name}" not in rules] == []


@cache
def read(page: str) -> str:
    return (DOCS / page).read_text()


@cache
def anchors(page: Path) -> frozenset[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return frozenset(re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings)


@cache
def options_of(command: str) -> frozenset[str]:
    if command == "up":
        return frozenset({"--port", "--host", "--workers", "--no-demo"})
    loaded = load_command_class(str(get_commands()[command]), command)
    parser = loaded.create_parser("manage.py", command)
    found = {option for action in parser._actions for option in action.option_strings}
    return frozenset(option for option in found if option.startswith("--")) - SHARED_OPTIONS


@cache
def sources(suffix: str) -> str:
    folders = [ROOT / app for app in (*APPS, "tests")]
    return "\n".join(path.read_text() for folder in folders for path in sorted(folder.rglob(f"*.{suffix}")))
