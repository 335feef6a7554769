from __future__ import annotations

import functools
from datetime import date

import pytest
from django.utils.timezone import now

from runtime.shop import documents, seed, stories
from runtime.shop.seed import Shop

_build = seed.build


@functools.cache
def whole_shop(today: date) -> Shop:
    return _build(today)


@pytest.fixture
def story_orders(db: None) -> None:
    """The orders of the stories and their customers; nothing else of the shop."""
    everything = whole_shop(now().date())
    people = {person.id for person in stories.PEOPLE}
    numbers = {story.number for story in stories.STORIES}
    seed.store(
        Shop(
            products=everything.products,
            customers=[row for row in everything.customers if row.pk in people],
            orders=[row for row in everything.orders if row.number in numbers],
            lines=[row for row in everything.lines if row.order_id in numbers],
            refunds=[row for row in everything.refunds if row.order_id in numbers],
            tickets=everything.tickets,
            letters=everything.letters,
        )
    )


@pytest.fixture
def policies(db: None) -> None:
    documents.store()
