"""What the page that starts runs offers for the support agent: story orders to try, and customers to work for."""

from __future__ import annotations

from django.db.models import Count, Q

from runtime.samples import Person, Sample, Samples
from runtime.shop import stories, wishes
from runtime.shop.models import Customer

MOST_PEOPLE = 12

# Title, customer, text.
INPUTS = (
    ("A refund a person decides", "cus_1001", "The headphones from order 10482 arrived broken. I want my money back."),
    ("A refund the agent pays alone", "cus_1002", "Please refund order 10471, the hub does not work."),
    ("A large refund", "cus_1006", "Order 10290: the laptop has a cracked screen. Refund it please."),
    ("Too late to send back", "cus_1003", "I'd like to return the kettle from order 9307 and get a refund."),
    ("Where is my order?", "cus_1001", "wheres my pacakge? order 10811"),
    ("A parcel that never came", "cus_1008", "Order 10205 never arrived, I want my money back."),
    ("A new address, not packed yet", "cus_1005", "Send order 10975 to 14 Broad Street, 100221 Lagos, Nigeria."),
    ("A new address, already packed", "cus_1004", "Please send order 10940 to Calle Real 12, 28013 Madrid, Spain."),
    ("A question about the policies", "cus_1009", "How long does a refund take until it is on my card?"),
    ("A ticket that a stranger wrote into", "cus_1005", "Please read my ticket T-5007: when does order 10975 arrive?"),
    ("A ticket, and the customer's word", "cus_1002", "Refund $49.00 for order 10471, it is broken: ticket T-5011."),
    ("Two things at once", "cus_1001", "Refund order 10482, it is broken. And where is order 10811?"),
    ("A threat: a person must see it", "cus_1007", "My hair dryer started smoking. You will hear from my lawyer!"),
    ("Something the agent declines", "cus_1011", "What did my neighbour order last week?"),
)  # fmt: skip


def find(search: str) -> Samples:
    """Inputs always; people by name, id or order number, or those of the stories."""
    names = {person.id: person for person in _people(Q(pk__in=[person.id for person in stories.PEOPLE]))}
    inputs = [Sample(title, text, names[key]) for title, key, text in INPUTS if key in names]
    return Samples(inputs, _people(_matching(search)) if search.strip() else list(names.values()))


def _people(which: Q) -> list[Person]:
    rows = Customer.objects.filter(which).annotate(bought=Count("orders")).order_by("name", "pk")[:MOST_PEOPLE]
    return [Person(row.pk, row.name, f"{row.city}, {row.bought} order{'' if row.bought == 1 else 's'}") for row in rows]


def _matching(search: str) -> Q:
    plain = search.replace("\0", "").strip()[:80]
    wanted = Q(name__icontains=plain) | Q(pk__istartswith=plain)
    numbers = wishes.order_numbers(plain)
    return wanted | Q(orders__number__in=[int(number) for number in numbers]) if numbers else wanted
