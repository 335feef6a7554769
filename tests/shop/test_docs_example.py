"""The example package of docs/how-to/write-a-tool.md works as the page says."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from approvals.models import ApprovalRequest
from console.principals import Principal
from runtime import tools
from runtime.states import RunStatus
from runtime.tools import BadArguments, ToolContext, ToolError
from tests.patience import PATIENCE_S
from tests.runtime.harness import a_scripted_release, calling, saying, start, work

PAGE = Path(settings.BASE_DIR) / "docs" / "how-to" / "write-a-tool.md"
PACKAGE = PAGE.parent / "warehouse-tools"
LARGE_ORDER = {
    "id": "large-order",
    "tool": "reorder",
    "when": [{"argument": "quantity", "op": "gt", "value": 100}],
    "then": "ask",
    "reason": "Orders of more than 100 pieces need a person.",
    "due_minutes": 60,
}


@pytest.fixture
def warehouse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "orders").mkdir()
    (tmp_path / "stock.json").write_text('{"CO-201": 3}')
    monkeypatch.setenv("WAREHOUSE_FOLDER", str(tmp_path))
    monkeypatch.syspath_prepend(str(PACKAGE))
    importlib.import_module("warehouse_tools")
    yield tmp_path
    for name in ("stock_level", "reorder"):
        tools._registry.pop(name, None)
    sys.modules.pop("warehouse_tools", None)


def call(name: str, key: str = "run_1:1", **arguments: Any) -> Any:
    found = tools.find(name)
    assert found is not None
    context = ToolContext("run_1", "thr_1", "buyer", "1", Principal("usr_1"), frozenset(), key)
    return found.call(context, found.canonical(arguments))


def orders(warehouse: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted((warehouse / "orders").iterdir())]


def test_the_tools_do_what_the_page_says(warehouse: Path):
    assert call("stock_level", sku="CO-201") == {"sku": "CO-201", "pieces": 3}
    with pytest.raises(ToolError, match="There is no article AU-999"):
        call("stock_level", sku="AU-999")
    with pytest.raises(BadArguments):
        call("reorder", sku="CO-201", quantity=501)


def test_a_repeated_call_orders_once(warehouse: Path):
    first = call("reorder", sku="CO-201", quantity=20)

    assert call("reorder", sku="CO-201", quantity=20) == first
    assert len(orders(warehouse)) == 1
    call("reorder", key="run_1:2", sku="CO-201", quantity=20)
    assert len(orders(warehouse)) == 2


@pytest.mark.django_db(transaction=True)
def test_an_agent_uses_them_and_its_rule_asks_a_person(warehouse: Path):
    def run_of(quantity: int) -> Any:
        steps = (calling("stock_level", sku="CO-201"), calling("reorder", sku="CO-201", quantity=quantity), "Ordered.")
        use = ("stock_level", "reorder")
        return work(start(a_scripted_release(saying(*steps), use=use, rules=[LARGE_ORDER]), "Order more hubs"))

    small, large = run_of(20), run_of(200)

    assert (small.status, small.answer) == (RunStatus.SUCCEEDED, "Ordered.")
    assert large.status == RunStatus.WAITING
    assert [row["quantity"] for row in orders(warehouse)] == [20]
    assert ApprovalRequest.objects.get().title == "Order 200 pieces of CO-201"


def test_the_page_shows_the_code_and_the_rule_as_they_are():
    page, code = PAGE.read_text(), (PACKAGE / "warehouse_tools.py").read_text()
    blocks = [block.partition("```")[0] for block in page.split("```python\n")[1:]]
    tool_blocks = [block for block in blocks if block.startswith("@tool")]
    rule = page.split("```json\n")[1].partition("```")[0]
    entry_point = page.split("```toml\n")[1].partition("```")[0]

    assert len(tool_blocks) == 2
    assert all(block in code for block in tool_blocks)
    assert json.loads(rule) == LARGE_ORDER
    assert entry_point in (PACKAGE / "pyproject.toml").read_text()


def test_an_installed_package_is_found_by_its_entry_point(tmp_path: Path):
    about = tmp_path / "warehouse_tools-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: warehouse-tools\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[steadyhand.tools]\nwarehouse = warehouse_tools\n")

    assert {"stock_level", "reorder", "lookup_order"} <= known_with(PYTHONPATH=f"{tmp_path}{os.pathsep}{PACKAGE}")


def test_a_module_is_found_by_the_setting():
    assert "reorder" in known_with(PYTHONPATH=str(PACKAGE), STEADYHAND_TOOLS='["warehouse_tools"]')


def known_with(**variables: str) -> set[str]:
    """The tools that a fresh process with these variables knows."""
    code = "import django; django.setup(); from runtime import tools; print(*tools.known())"
    env = {**os.environ, "PYTHONPATH": "", **variables}
    env["PYTHONPATH"] += os.pathsep + str(settings.BASE_DIR)
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())
