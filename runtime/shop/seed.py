"""The demo shop's data: the same for the same day, about 3,000 customers and 9,000 orders, loaded with COPY."""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal

from django.db import connection, models, transaction
from django.db.models import F

from runtime.shop import catalogue, letters, people, stories
from runtime.shop.models import Customer, Order, OrderLine, Product, Refund, Ticket, TicketMessage
from runtime.shop.states import OrderStatus

SEED = 20261101
CUSTOMERS = 3000
FIRST_CUSTOMER = 1001
FIRST_ORDER, LAST_ORDER = 2001, 11000
HISTORY_DAYS = 430
FREE_DELIVERY_FROM_USD = Decimal(50)
DELIVERY_USD = Decimal("4.90")
CARRIERS = ("Northway", "Parcelline", "Swift & Sons", "Bluebird Post")
ANCHOR = next(story for story in stories.STORIES if story.number == 10482)


@dataclass
class Shop:
    """Rows that are not stored yet."""

    products: list[Product] = field(default_factory=list)
    customers: list[Customer] = field(default_factory=list)
    orders: list[Order] = field(default_factory=list)
    lines: list[OrderLine] = field(default_factory=list)
    refunds: list[Refund] = field(default_factory=list)
    tickets: list[Ticket] = field(default_factory=list)
    letters: list[TicketMessage] = field(default_factory=list)


def build(today: date) -> Shop:
    """Make every row. Nothing but `today` changes the result."""
    draw = random.Random(SEED)
    shop = Shop(products=_products(), customers=_customers(draw, today))
    prices = {product.sku: product.price_usd for product in shop.products}
    by_id = {customer.id: customer for customer in shop.customers}
    told = {story.number: story for story in stories.STORIES}
    buyers = shop.customers[len(stories.PEOPLE) :]
    for number in range(FIRST_ORDER, LAST_ORDER + 1):
        if number in told:
            _add_story(shop, told[number], by_id[told[number].customer], prices, today)
        else:
            _add_order(shop, number, draw.choice(buyers), prices, draw, today)
    add_tickets(shop, today)
    return shop


@transaction.atomic
def store(shop: Shop) -> None:
    for kind, rows in (
        (Product, shop.products),
        (Customer, shop.customers),
        (Order, shop.orders),
        (OrderLine, shop.lines),
        (Refund, shop.refunds),
        (Ticket, shop.tickets),
        (TicketMessage, shop.letters),
    ):
        _copy(kind, rows)


@transaction.atomic
def move_to(today: date) -> int:
    """Move the shop's calendar along, so that "delivered 9 days ago" stays true. Returns by how many days.

    Dates of orders and of the refunds that came with them move by whole days; what agents did stays where it is.
    """
    delivered = Order.objects.select_for_update().get(pk=ANCHOR.number).delivered_at
    assert delivered is not None
    assert ANCHOR.delivered is not None
    days = (today - timedelta(days=ANCHOR.delivered) - delivered.date()).days
    if days <= 0:
        return 0
    by = timedelta(days=days)
    moments = ("placed_at", "promised_on", "packed_at", "shipped_at", "delivered_at", "returned_at", "cancelled_at")
    Order.objects.update(**{name: F(name) + by for name in moments})
    Refund.objects.filter(idempotency_key__startswith="seed:").update(at=F("at") + by)
    Ticket.objects.update(opened_at=F("opened_at") + by)
    TicketMessage.objects.update(at=F("at") + by)
    return days


def add_tickets(shop: Shop, today: date) -> None:
    def at(letter: letters.Letter) -> datetime:
        return datetime.combine(today - timedelta(days=letter.days_ago), time(9 if letter.days_ago else 0), UTC)

    for story in letters.TICKETS:
        ticket = Ticket(
            number=story.number,
            customer_id=story.customer,
            order_id=story.order,
            subject=story.subject,
            opened_at=at(story.letters[0]),
        )
        shop.tickets.append(ticket)
        shop.letters += [
            TicketMessage(
                ticket=ticket,
                position=place,
                author_id=story.customer if letter.is_customer else None,
                sender=letter.sender,
                at=at(letter),
                text=letter.text,
            )
            for place, letter in enumerate(story.letters, start=1)
        ]


def _products() -> list[Product]:
    return [
        Product(sku=sku, name=name, category=category, price_usd=Decimal(price), warranty_months=months)
        for category, items in catalogue.CATALOGUE.items()
        for sku, name, price, months in items
    ]


def _customers(draw: random.Random, today: date) -> list[Customer]:
    long_ago = _moment(draw, today, HISTORY_DAYS + 30)
    found = [
        Customer(
            id=person.id, name=person.name, email=_email(person.name, person.id), street=person.street,
            city=person.city, postal_code=person.postal_code, country=person.country, joined_at=long_ago,
        )
        for person in stories.PEOPLE
    ]  # fmt: skip
    shares = [culture.share for culture in people.CULTURES]
    for index in range(len(found), CUSTOMERS):
        culture = draw.choices(people.CULTURES, shares)[0]
        name = f"{draw.choice(culture.given)} {draw.choice(culture.family)}"
        city, postal = draw.choice(culture.places)
        key = f"cus_{FIRST_CUSTOMER + index}"
        found.append(
            Customer(
                id=key,
                name=name,
                email=_email(name, key),
                street=draw.choice(culture.streets).format(n=draw.randint(1, 180)),
                city=city,
                postal_code=_postal(draw, postal),
                country=culture.country,
                joined_at=_moment(draw, today, HISTORY_DAYS + draw.randint(1, 900)),
            )
        )
    return found


def _add_order(
    shop: Shop, number: int, customer: Customer, prices: dict[str, Decimal], draw: random.Random, today: date
) -> None:
    """One order of an age that fits its number, in a state that fits its age."""
    share = (LAST_ORDER - number) / (LAST_ORDER - FIRST_ORDER)
    age = int(HISTORY_DAYS * share**1.2)
    order = _blank(number, customer, _moment(draw, today, age))
    order.promised_on = order.placed_at.date() + timedelta(days=draw.randint(4, 9))
    _age(order, age, draw)
    wanted = [(sku, draw.choices((1, 2, 3), (88, 9, 3))[0]) for sku in draw.sample(sorted(prices), _many(draw))]
    lines = _price(order, wanted, prices, is_free=False)
    shop.orders.append(order)
    shop.lines.extend(lines)
    if order.status in (OrderStatus.RETURNED, OrderStatus.CANCELLED):
        why = "Returned within the window." if order.status == OrderStatus.RETURNED else "Cancelled before shipping."
        at = order.returned_at or order.cancelled_at or order.placed_at
        _refund(shop, order, order.total_usd, why, at)
    elif order.status == OrderStatus.DELIVERED and draw.random() < 0.02:
        part = (order.total_usd * draw.randint(10, 30) / 100).quantize(Decimal("0.01"))
        assert order.delivered_at is not None
        _refund(shop, order, part, "Small flaw, kept by the customer.", order.delivered_at)


def _age(order: Order, age: int, draw: random.Random) -> None:
    """Set status and dates of an order placed `age` days ago; none of them lies after today's first minute."""
    placed = order.placed_at
    if age <= 1:
        order.status = draw.choice((OrderStatus.PLACED, OrderStatus.PACKED)) if age else OrderStatus.PLACED
        order.packed_at = placed + timedelta(minutes=59) if order.status == OrderStatus.PACKED else None
        return
    if draw.random() < 0.04:
        order.status = OrderStatus.CANCELLED
        order.cancelled_at = placed + timedelta(hours=draw.randint(1, 20))
        return
    takes = draw.randint(3, 8) if draw.random() < 0.95 else draw.randint(9, 24)
    order.status = OrderStatus.DELIVERED if takes < age else OrderStatus.SHIPPED
    order.packed_at = placed + timedelta(hours=draw.randint(2, 16))
    order.shipped_at = placed + timedelta(hours=draw.randint(18, 24 if age == 2 else 40))
    order.carrier = draw.choice(CARRIERS)
    order.tracking = f"{order.carrier[:2].upper()}{draw.randint(10**9, 10**10 - 1)}"
    if order.status == OrderStatus.DELIVERED:
        order.delivered_at = datetime.combine(
            placed.date() + timedelta(days=takes), time(draw.randint(16, 19), draw.randint(0, 59)), UTC
        )
        if age - takes > 16 and draw.random() < 0.05:
            order.status = OrderStatus.RETURNED
            order.returned_at = order.delivered_at + timedelta(days=draw.randint(2, 15))


def _add_story(shop: Shop, story: stories.Story, customer: Customer, prices: dict[str, Decimal], today: date) -> None:
    def at(days: int | None) -> datetime | None:
        return None if days is None else datetime.combine(today - timedelta(days=days), time(9 if days else 0), UTC)

    placed = at(story.placed)
    assert placed is not None
    order = _blank(story.number, customer, placed)
    order.status = story.status
    order.promised_on = today - timedelta(days=story.promised)
    order.packed_at, order.shipped_at, order.delivered_at = at(story.packed), at(story.shipped), at(story.delivered)
    order.returned_at, order.cancelled_at = at(story.returned), at(story.cancelled)
    if order.shipped_at:
        order.carrier, order.tracking = CARRIERS[0], f"NO{story.number * 97:010d}"
    shop.orders.append(order)
    shop.lines.extend(_price(order, [(sku, 1) for sku in story.skus], prices, is_free=True))
    if story.refunded_usd:
        paid_at = order.returned_at or order.cancelled_at or placed
        _refund(shop, order, story.refunded_usd, story.refund_reason, paid_at)


def _blank(number: int, customer: Customer, placed_at: datetime) -> Order:
    return Order(
        number=number,
        customer=customer,
        placed_at=placed_at,
        street=customer.street,
        city=customer.city,
        postal_code=customer.postal_code,
        country=customer.country,
    )


def _price(
    order: Order, wanted: Sequence[tuple[str, int]], prices: dict[str, Decimal], *, is_free: bool
) -> list[OrderLine]:
    lines = [
        OrderLine(order=order, product_id=sku, quantity=quantity, unit_price_usd=prices[sku])
        for sku, quantity in wanted
    ]
    goods = sum((line.unit_price_usd * line.quantity for line in lines), Decimal(0))
    order.shipping_usd = Decimal(0) if is_free or goods >= FREE_DELIVERY_FROM_USD else DELIVERY_USD
    order.total_usd = goods + order.shipping_usd
    return lines


def _refund(shop: Shop, order: Order, amount: Decimal, reason: str, at: datetime) -> None:
    order.refunded_usd = amount
    shop.refunds.append(
        Refund(order=order, amount_usd=amount, reason=reason, idempotency_key=f"seed:{order.number}", at=at)
    )


def _many(draw: random.Random) -> int:
    return draw.choices((1, 2, 3), (62, 28, 10))[0]


def _moment(draw: random.Random, today: date, days_ago: int) -> datetime:
    """A moment of that day; of today its first, which has passed at any time of the day."""
    moment = time(draw.randint(6, 22), draw.randint(0, 59)) if days_ago else time(0, 0)
    return datetime.combine(today - timedelta(days=days_ago), moment, UTC)


def _email(name: str, key: str) -> str:
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    letters = "".join(letter if letter.isalnum() else "." for letter in plain).strip(".")
    return f"{letters}.{key.removeprefix('cus_')}@example.com"


def _postal(draw: random.Random, shape: str) -> str:
    filled = {"#": lambda: str(draw.randint(0, 9)), "@": lambda: draw.choice("ABDEFGHJLNPQRSTUWXYZ")}
    return "".join(filled[letter]() if letter in filled else letter for letter in shape)


def _copy(kind: type[models.Model], rows: Iterable[models.Model]) -> None:
    """COPY rows in; columns the database fills itself (identity, generated) are left to it."""
    table = kind._meta  # noqa: SLF001  # Django documents _meta as public
    fields = [f for f in table.concrete_fields if not f.generated and not isinstance(f, models.AutoField)]
    columns = ", ".join(f'"{f.column}"' for f in fields)
    names = [f.attname for f in fields]
    statement = f'COPY "{table.db_table}" ({columns}) FROM STDIN'
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        for row in rows:
            copy.write_row([getattr(row, name) for name in names])
