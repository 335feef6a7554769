from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from console import ids
from releases.bundles import ModelSpec, Price
from runtime.messages import Call, Reply, UserText
from runtime.providers import get, scripted
from runtime.providers.base import ModelRequest, ProviderError

TEXT = "One two three four five.\n\nSix  seven "


def request(text: str = "Hello", **spec: object) -> ModelRequest:
    model = ModelSpec.model_validate({"provider": "scripted", "name": "test-script", **spec})
    return ModelRequest(model, "Be kind.", (UserText(text),), (), ids.new(), ids.new())


def answer(asked: ModelRequest, reply: Reply) -> tuple[Reply, list[str]]:
    scripted.register("test-script", lambda _: reply)
    heard: list[str] = []

    async def hear(piece: str) -> None:
        heard.append(piece)

    return asyncio.run(get(asked.model).reply(asked, hear)), heard


def test_the_text_streams_in_pieces_that_give_it_back():
    reply, heard = answer(request(parameters={"delay_ms": 1}), Reply(TEXT))

    assert reply.text == TEXT
    assert len(heard) > 2
    assert "".join(heard) == TEXT


@given(st.text(max_size=200))
def test_pieces_lose_nothing(text: str):
    assert "".join(scripted.pieces(text)) == text


def test_it_says_that_it_is_scripted():
    reply, _ = answer(request(), Reply("Hi", (Call("1", "look", {}),)))

    assert reply.model == "Scripted test-script"
    assert reply.stop_reason == "tool_calls"


def test_tokens_are_counted_the_same_each_time_and_marked_as_an_estimate():
    first, second = answer(request(), Reply("12345678"))[0], answer(request(), Reply("12345678"))[0]

    assert first.usage == second.usage
    assert first.usage.is_estimated
    assert first.usage.output_tokens == 2
    assert answer(request("Hello" * 100), Reply(""))[0].usage.input_tokens > first.usage.input_tokens


def test_it_costs_nothing_unless_the_release_names_a_price():
    price = Price(input_usd=Decimal(1), output_usd=Decimal(2))

    free = answer(request(), Reply("12345678"))[0].cost
    priced = answer(replace(request(), model=request(price=price).model), Reply("12345678"))[0]

    assert free.usd == 0
    assert priced.cost.usd == (priced.usage.input_tokens + Decimal(4)) / 1_000_000
    assert priced.cost.basis == "estimated"


@pytest.mark.parametrize(("delay_ms", "least_s"), [(0, 0), (20, 0.05), (-5, 0), ("x", 0), (True, 0)])
def test_the_delay_is_a_parameter_of_the_release(delay_ms: object, least_s: float):
    began = time.perf_counter()
    answer(request(parameters={"delay_ms": delay_ms}), Reply(TEXT))

    assert time.perf_counter() - began >= least_s


def test_a_script_nobody_knows_is_named():
    with pytest.raises(ProviderError, match="There is no script 'nobody'") as refusal:
        answer(request(name="nobody"), Reply(""))

    assert not refusal.value.retry
