"""Orders with a part in the documentation and the tests. Their days are counted back from today."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from runtime.shop.states import OrderStatus


@dataclass(frozen=True)
class Person:
    id: str
    name: str
    street: str
    postal_code: str
    city: str
    country: str


@dataclass(frozen=True)
class Story:
    """Days ago; None: did not happen. Delivery of story orders is free, so the total is the price of the items."""

    number: int
    customer: str
    skus: tuple[str, ...]
    status: OrderStatus
    placed: int
    promised: int  # negative: in the future
    packed: int | None = None
    shipped: int | None = None
    delivered: int | None = None
    returned: int | None = None
    cancelled: int | None = None
    refunded_usd: Decimal = Decimal(0)
    refund_reason: str = ""


PEOPLE = (
    Person("cus_1001", "Ana Lima", "Rua do Carmo 15", "1200-093", "Lisboa", "Portugal"),
    Person("cus_1002", "Jonas Weber", "Lindenstraße 8", "20099", "Hamburg", "Germany"),
    Person("cus_1003", "Priya Raman", "22 MG Road", "560001", "Bengaluru", "India"),
    Person("cus_1004", "Mateo Fernández", "Calle Mayor 31", "28013", "Madrid", "Spain"),
    Person("cus_1005", "Aisha Bello", "9 Allen Avenue", "100271", "Lagos", "Nigeria"),
    Person("cus_1006", "Chen Wei", "48 Maple Avenue", "97205", "Portland", "United States"),
    Person("cus_1007", "Sofia Rossi", "14 Church Lane", "LS2 7HD", "Leeds", "United Kingdom"),
    Person("cus_1008", "Liam O'Brien", "3 Station Road", "BS1 4ST", "Bristol", "United Kingdom"),
    Person("cus_1009", "Yuki Tanaka", "5-2 Minami", "530-0041", "Osaka", "Japan"),
    Person("cus_1010", "Fatima El Amrani", "12 rue Victor Hugo", "69002", "Lyon", "France"),
    Person("cus_1011", "Noah Becker", "Gartenstraße 40", "79098", "Freiburg", "Germany"),
)

_S = OrderStatus

STORIES = (
    # The refund over the limit of 100 dollars that a person decides.
    Story(10482, "cus_1001", ("AU-101",), _S.DELIVERED, 14, 9, packed=13, shipped=12, delivered=9),
    # Her other order, on its way.
    Story(10811, "cus_1001", ("TR-601",), _S.SHIPPED, 4, -2, packed=3, shipped=2),
    # A refund below the limit: the agent does it alone.
    Story(10471, "cus_1002", ("CO-201",), _S.DELIVERED, 14, 7, packed=13, shipped=12, delivered=6),
    # Outside the return window.
    Story(9307, "cus_1003", ("KI-301",), _S.DELIVERED, 58, 51, packed=57, shipped=56, delivered=52),
    # Packed: a new address asks a person.
    Story(10940, "cus_1004", ("FU-504", "HO-401"), _S.PACKED, 1, -4, packed=0),
    # Placed: a new address is taken at once.
    Story(10975, "cus_1005", ("CA-701",), _S.PLACED, 0, -6),
    # Above 500 dollars: two persons.
    Story(10290, "cus_1006", ("CO-210",), _S.DELIVERED, 20, 14, packed=19, shipped=18, delivered=15),
    # Returned, the money is back already.
    Story(
        10388, "cus_1007", ("CA-702",), _S.RETURNED, 17, 12, packed=16, shipped=15, delivered=13, returned=6,
        refunded_usd=Decimal("62.00"), refund_reason="Returned within the window.",
    ),
    # Eight days late and never arrived.
    Story(10205, "cus_1008", ("HO-402",), _S.SHIPPED, 23, 8, packed=22, shipped=20),
    # Arrived broken, below the limit.
    Story(10550, "cus_1009", ("HO-401",), _S.DELIVERED, 12, 5, packed=11, shipped=10, delivered=4),
    # Cancelled and refunded.
    Story(
        10702, "cus_1010", ("TR-602",), _S.CANCELLED, 7, 1, cancelled=6,
        refunded_usd=Decimal("129.50"), refund_reason="Cancelled before shipping.",
    ),
    # A part is refunded: 20.00 of 94.00; the rest can follow.
    Story(
        10333, "cus_1011", ("CO-220",), _S.DELIVERED, 19, 13, packed=18, shipped=17, delivered=14,
        refunded_usd=Decimal("20.00"), refund_reason="Scratch on the case, kept by the customer.",
    ),
)  # fmt: skip
