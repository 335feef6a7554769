"""Every status of an order of the demo shop."""

from enum import StrEnum


class OrderStatus(StrEnum):
    PLACED = "placed"
    PACKED = "packed"  # in its box, waiting for the carrier
    SHIPPED = "shipped"
    DELIVERED = "delivered"
    RETURNED = "returned"
    CANCELLED = "cancelled"


NOT_SHIPPED = frozenset({OrderStatus.PLACED, OrderStatus.PACKED})
