"""The demo shop: customers, orders, what agents did to them, and the policy documents they search. Money is USD."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any, ClassVar

from django.contrib.postgres.indexes import GinIndex
from django.contrib.postgres.search import SearchVector, SearchVectorField
from django.db import models
from django.utils import timezone

from runtime.shop.states import NOT_SHIPPED, OrderStatus

RETURN_WINDOW = timedelta(days=30)
ADDRESS_FIELDS = ("street", "city", "postal_code", "country")


class Customer(models.Model):
    """`id` is the principal a run works for: cus_1001."""

    id = models.CharField(primary_key=True, max_length=20)
    name = models.CharField(max_length=120)
    email = models.EmailField()
    street = models.CharField(max_length=120)
    city = models.CharField(max_length=80)
    postal_code = models.CharField(max_length=16)
    country = models.CharField(max_length=60)
    joined_at = models.DateTimeField()

    def __str__(self) -> str:
        return self.name


class Product(models.Model):
    sku = models.CharField(primary_key=True, max_length=20)
    name = models.CharField(max_length=120)
    category = models.CharField(max_length=40)
    price_usd = models.DecimalField(max_digits=10, decimal_places=2)
    warranty_months = models.PositiveSmallIntegerField()

    def __str__(self) -> str:
        return self.name


class OrderQuerySet(models.QuerySet["Order"]):
    def of(self, customer_id: str | None) -> OrderQuerySet:
        """Only this customer's orders; None means all."""
        return self if customer_id is None else self.filter(customer_id=customer_id)


class Order(models.Model):
    """`refunded_usd` is the sum of its refunds; the database refuses more than was paid."""

    number = models.PositiveIntegerField(primary_key=True)
    customer = models.ForeignKey(Customer, on_delete=models.PROTECT, related_name="orders")
    status = models.CharField(max_length=10)
    placed_at = models.DateTimeField()
    promised_on = models.DateField()
    packed_at = models.DateTimeField(null=True)
    shipped_at = models.DateTimeField(null=True)
    delivered_at = models.DateTimeField(null=True)
    returned_at = models.DateTimeField(null=True)
    cancelled_at = models.DateTimeField(null=True)
    carrier = models.CharField(max_length=40, blank=True)
    tracking = models.CharField(max_length=40, blank=True)
    street = models.CharField(max_length=120)
    city = models.CharField(max_length=80)
    postal_code = models.CharField(max_length=16)
    country = models.CharField(max_length=60)
    shipping_usd = models.DecimalField(max_digits=10, decimal_places=2)
    total_usd = models.DecimalField(max_digits=10, decimal_places=2, help_text="Lines and shipping, as paid")
    refunded_usd = models.DecimalField(max_digits=10, decimal_places=2, default=Decimal(0))

    objects = OrderQuerySet.as_manager()

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=models.Q(status__in=[status.value for status in OrderStatus]), name="shop_order_status_known"
            ),
            models.CheckConstraint(
                condition=models.Q(refunded_usd__gte=0) & models.Q(refunded_usd__lte=models.F("total_usd")),
                name="shop_order_refunds_within_total",
            ),
        ]
        indexes: ClassVar = [models.Index(fields=["customer", "-placed_at"], name="shop_order_by_customer")]

    def __str__(self) -> str:
        return str(self.number)

    @property
    def refundable_usd(self) -> Decimal:
        return self.total_usd - self.refunded_usd

    @property
    def can_change_address(self) -> bool:
        return self.status in NOT_SHIPPED

    @property
    def address(self) -> dict[str, str]:
        return {field: getattr(self, field) for field in ADDRESS_FIELDS}


class OrderLine(models.Model):
    order = models.ForeignKey(Order, on_delete=models.CASCADE, related_name="lines")
    product = models.ForeignKey(Product, on_delete=models.PROTECT, related_name="+")
    quantity = models.PositiveSmallIntegerField()
    unit_price_usd = models.DecimalField(max_digits=10, decimal_places=2)

    def __str__(self) -> str:
        return f"{self.quantity} × {self.product_id}"


class Effect(models.Model):
    """Something an agent did. The key is the call's idempotency key: the same call leaves one row."""

    idempotency_key = models.CharField(max_length=120, unique=True)
    run_id = models.CharField(max_length=40, blank=True)
    at = models.DateTimeField(default=timezone.now)

    class Meta:
        abstract = True


class Refund(Effect):
    order = models.ForeignKey(Order, on_delete=models.PROTECT, related_name="refunds")
    amount_usd = models.DecimalField(max_digits=10, decimal_places=2)
    reason = models.CharField(max_length=500)

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(condition=models.Q(amount_usd__gt=0), name="shop_refund_is_positive")
        ]

    def __str__(self) -> str:
        return f"{self.amount_usd} for order {self.order_id}"


class AddressChange(Effect):
    order = models.ForeignKey(Order, on_delete=models.PROTECT, related_name="address_changes")
    before = models.JSONField()
    after = models.JSONField()

    def __str__(self) -> str:
        return f"order {self.order_id} to {self.after.get('city', '')}"


class DraftReply(Effect):
    order = models.ForeignKey(Order, on_delete=models.PROTECT, related_name="drafts")
    text = models.TextField()

    def __str__(self) -> str:
        return self.text[:60]


class OutboxMessage(Effect):
    """A reply that was sent. The demo shop has no mail server; this row is the sending."""

    customer = models.ForeignKey(Customer, on_delete=models.PROTECT, related_name="messages")
    order = models.ForeignKey(Order, null=True, on_delete=models.PROTECT, related_name="messages")
    text = models.TextField()

    def __str__(self) -> str:
        return self.text[:60]


class TicketQuerySet(models.QuerySet["Ticket"]):
    def of(self, customer_id: str | None) -> TicketQuerySet:
        """Only this customer's tickets; None means all."""
        return self if customer_id is None else self.filter(customer_id=customer_id)


class Ticket(models.Model):
    """A conversation by mail about one customer's case. Whoever knows its address can write into it."""

    number = models.PositiveIntegerField(primary_key=True)
    customer = models.ForeignKey(Customer, on_delete=models.PROTECT, related_name="tickets")
    order = models.ForeignKey(Order, null=True, on_delete=models.PROTECT, related_name="tickets")
    subject = models.CharField(max_length=200)
    opened_at = models.DateTimeField()

    objects = TicketQuerySet.as_manager()

    def __str__(self) -> str:
        return self.public_id

    @property
    def public_id(self) -> str:
        return f"T-{self.number}"


class TicketMessage(models.Model):
    """`author` is set where a signed-in customer wrote it; of anything else the sender is only what the mail says."""

    ticket = models.ForeignKey(Ticket, on_delete=models.CASCADE, related_name="messages")
    position = models.PositiveSmallIntegerField()
    author = models.ForeignKey(Customer, null=True, on_delete=models.PROTECT, related_name="+")
    sender = models.CharField(max_length=200)
    at = models.DateTimeField()
    text = models.TextField()

    class Meta:
        ordering: ClassVar = ["ticket", "position"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["ticket", "position"], name="shop_ticket_message_in_order")
        ]

    def __str__(self) -> str:
        return self.text[:60]


class PolicyDocument(models.Model):
    """One version of one document. It never changes; a trigger refuses it. A new wording is a new version."""

    slug = models.SlugField(max_length=40)
    version = models.CharField(max_length=20, help_text="Year and month: 2026.11. Sorts as text.")
    title = models.CharField(max_length=120)

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["slug", "version"], name="shop_policy_version_unique")]

    def __str__(self) -> str:
        return f"{self.slug}@{self.version}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        kwargs["force_insert"] = True
        super().save(*args, **kwargs)


class PolicySection(models.Model):
    """What a citation points to: `returns#window@2026.11`. `asked_as` holds words customers use for it."""

    document = models.ForeignKey(PolicyDocument, on_delete=models.PROTECT, related_name="sections")
    anchor = models.SlugField(max_length=40)
    position = models.PositiveSmallIntegerField()
    heading = models.CharField(max_length=120)
    text = models.TextField()
    asked_as = models.TextField(blank=True)
    search = models.GeneratedField(
        expression=SearchVector("heading", weight="A", config="english")
        + SearchVector("asked_as", weight="B", config="english")
        + SearchVector("text", weight="C", config="english"),
        output_field=SearchVectorField(),
        db_persist=True,
    )

    class Meta:
        ordering: ClassVar = ["document", "position"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["document", "anchor"], name="shop_policy_anchor_unique")
        ]
        indexes: ClassVar = [GinIndex(fields=["search"], name="shop_policy_search")]

    def __str__(self) -> str:
        return self.citation

    @property
    def citation(self) -> str:
        return f"{self.document.slug}#{self.anchor}@{self.document.version}"
