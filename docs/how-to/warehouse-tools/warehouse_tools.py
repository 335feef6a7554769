"""Tools of a warehouse: see what is in stock, order more."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from runtime.tools import ToolContext, ToolError, tool

Sku = Annotated[str, Field(pattern=r"^[A-Z]{2}-[0-9]{3}$", description="Article number: CO-201")]


@tool(
    effect="read",
    output_trust="trusted",
    scope="stock:read",
    arguments={"sku": "target"},
    title="Look up the stock of {sku}",
    timeout_s=5,
)
def stock_level(ctx: ToolContext, sku: Sku) -> dict[str, Any]:
    """How many pieces of an article are in the warehouse."""
    stock = json.loads((_folder() / "stock.json").read_text())
    if sku not in stock:
        raise ToolError(f"There is no article {sku}.", code="not_found")
    return {"sku": sku, "pieces": stock[sku]}


@tool(
    effect="write",
    retry="idempotent",
    output_trust="trusted",
    scope="stock:order",
    arguments={"sku": "target", "quantity": "amount"},
    title="Order {quantity} pieces of {sku}",
    timeout_s=10,
)
def reorder(ctx: ToolContext, sku: Sku, quantity: Annotated[int, Field(gt=0, le=500)]) -> dict[str, Any]:
    """Order more of an article from its supplier."""
    placed = {"sku": sku, "quantity": quantity, "for": ctx.principal_id}
    path = _folder() / "orders" / f"{ctx.idempotency_key.replace(':', '-')}.json"
    try:
        with path.open("x") as file:
            json.dump(placed, file)
    except FileExistsError:  # an earlier attempt of this very call
        placed = json.loads(path.read_text())
    return {"ordered": True, **placed}


def _folder() -> Path:
    return Path(os.environ["WAREHOUSE_FOLDER"])
