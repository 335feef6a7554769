from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from time import process_time
from typing import Any

import pytest
from django.conf import settings
from django.db.models import Sum
from django.utils.timezone import now

from runtime.shop import accounts, seed, stories
from runtime.shop.models import Customer, Order, OrderLine, Refund
from runtime.shop.states import OrderStatus
from tests.shop.conftest import whole_shop


def rows(shop: seed.Shop) -> list[list[Any]]:
    kinds = [getattr(shop, field.name) for field in dataclasses.fields(shop)]
    return [[{k: v for k, v in vars(row).items() if k != "_state"} for row in kind] for kind in kinds]


def test_the_same_day_makes_the_same_shop():
    today = now().date()

    assert rows(seed.build(today)) == rows(whole_shop(today))


def test_another_day_only_moves_the_dates():
    today = now().date()
    first, later = whole_shop(today), seed.build(today + timedelta(days=1))

    assert [row.name for row in first.customers] == [row.name for row in later.customers]
    assert [row.total_usd for row in first.orders] == [row.total_usd for row in later.orders]


@pytest.mark.django_db
def test_the_whole_shop_is_stored_quickly_and_adds_up():
    shop = whole_shop(now().date())
    began = process_time()
    seed.store(shop)

    assert process_time() - began < 3
    assert (Customer.objects.count(), Order.objects.count()) == (3000, 9000)
    assert set(Order.objects.values_list("status", flat=True).distinct()) == set(OrderStatus)
    assert OrderLine.objects.count() == len(shop.lines)
    assert Order.objects.aggregate(paid=Sum("refunded_usd")) == Refund.objects.aggregate(paid=Sum("amount_usd"))


def test_orders_make_sense():
    today = now().date()
    midnight = datetime.combine(today, time(0), UTC)
    shop = whole_shop(today)
    goods: Counter[int] = Counter()
    for line in shop.lines:
        goods[line.order_id] += line.unit_price_usd * line.quantity

    for order in shop.orders:
        moments = [order.placed_at, order.packed_at, order.shipped_at, order.delivered_at, order.returned_at]
        known = [moment for moment in moments if moment is not None]
        assert known == sorted(known), order.number
        assert known[-1] <= midnight, order.number  # so it has passed at any time of the day
        assert order.total_usd == goods[order.number] + order.shipping_usd
        assert (order.delivered_at is not None) == (order.status in (OrderStatus.DELIVERED, OrderStatus.RETURNED))


def test_newer_orders_have_higher_numbers():
    placed = [order.placed_at.date() for order in whole_shop(now().date()).orders]

    assert all(later >= earlier - timedelta(days=1) for earlier, later in itertools.pairwise(placed))


@pytest.mark.usefixtures("story_orders")
def test_the_calendar_moves_along_but_not_what_agents_did():
    today = now().date()
    seeded = Refund.objects.get(order_id=10388).at
    done = Refund.objects.create(order_id=10482, amount_usd=Decimal(1), reason="x", idempotency_key="run_1:1")

    assert seed.move_to(today) == 0
    assert seed.move_to(today + timedelta(days=40)) == 40
    assert seed.move_to(today + timedelta(days=40)) == 0

    order = Order.objects.get(pk=10482)
    assert order.delivered_at is not None
    assert order.delivered_at.date() == today + timedelta(days=31)
    assert Refund.objects.get(order_id=10388).at == seeded + timedelta(days=40)
    assert Refund.objects.get(pk=done.pk).at == done.at


def test_every_story_has_its_person():
    assert {story.customer for story in stories.STORIES} == {person.id for person in stories.PEOPLE}


def test_the_page_about_the_demo_tells_of_every_story():
    page = (Path(settings.BASE_DIR) / "docs" / "reference" / "demo-shop.md").read_text()
    names = {person.id: person.name for person in stories.PEOPLE}

    for story in stories.STORIES:
        assert f"| {story.number} | {story.customer} {names[story.customer]} |" in page
    assert all(email in page for email, *_ in accounts.ACCOUNTS)
