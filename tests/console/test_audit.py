from __future__ import annotations

import json
import threading

import pytest
from django.core.management import CommandError, call_command
from django.db import DatabaseError, connection, transaction

from console import actors, audit
from console.models import AuditEntry
from console.roles import Role
from tests.builders import a_user

WRITERS = 4
EACH = 12


INSERT_FORGED = """
    INSERT INTO console_auditentry (at, actor_kind, actor_id, actor_label, action, object_kind, object_id, object_label,
        object_url, reason, changes, previous_hash, hash)
    SELECT at, actor_kind, actor_id, actor_label, action, object_kind, object_id, object_label,
        object_url, 'forged', changes, (SELECT hash FROM console_auditentry ORDER BY id DESC LIMIT 1), hash
    FROM console_auditentry WHERE id = {third}
"""


class Thing:
    """Something that is audited."""

    def __init__(self, label: str = "Order 1042") -> None:
        self.label = label

    def audit_subject(self) -> tuple[str, str, str, str]:
        return "order", "ord_1", self.label, "/orders/ord_1/"


def record(label: str = "Order 1042", **fields) -> None:
    with transaction.atomic():
        audit.record(actors.system("test"), "order.change", Thing(label), reason=fields.pop("reason", "why"), **fields)


def tamper(statement: str) -> None:
    """Change the table as somebody with full rights on the database could."""
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE console_auditentry DISABLE TRIGGER console_audit_append_only")
        cursor.execute(statement)
        cursor.execute("ALTER TABLE console_auditentry ENABLE TRIGGER console_audit_append_only")


@pytest.mark.django_db
def test_an_entry_says_who_what_and_why():
    ada = a_user(Role.OPERATOR, name="Ada Okafor").actor()

    audit.record(ada, "order.change", Thing(), reason="cracked", changes={"amount": ["129.00", "99.00"]})

    entry = AuditEntry.objects.get()
    assert (entry.actor_kind, entry.actor_label, entry.action) == ("user", "Ada Okafor", "order.change")
    assert (entry.object_id, entry.object_url, entry.reason) == ("ord_1", "/orders/ord_1/", "cracked")
    assert entry.changes == {"amount": ["129.00", "99.00"]}


@pytest.mark.django_db
def test_secrets_never_reach_the_log():
    secret = "ghp_" + "c" * 36

    record(f"Key {secret}", reason=f"leaked {secret}", changes={"password": [secret, "new-secret"]})

    entry = AuditEntry.objects.get()
    assert secret not in f"{entry.object_label}{entry.reason}{entry.changes}"
    assert "new-secret" not in str(entry.changes)


@pytest.mark.django_db
@pytest.mark.parametrize(
    "statement", ["UPDATE console_auditentry SET reason = 'better'", "DELETE FROM console_auditentry"]
)
def test_the_database_refuses_to_change_entries(statement):
    record()

    with pytest.raises(DatabaseError, match="append-only"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement)

    assert AuditEntry.objects.get().reason == "why"


@pytest.mark.django_db
def test_an_untouched_chain_is_whole():
    for number in range(5):
        record(f"Order {number}")

    last = AuditEntry.objects.latest("id")
    assert audit.verify() == audit.Verified(5, None, head=audit.Anchor(5, last.pk, last.hash))


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("statement", "bad", "fitting"),
    [
        ("UPDATE console_auditentry SET reason = 'other' WHERE id = {third}", "third", 2),
        ("UPDATE console_auditentry SET changes = '{{\"a\": 1}}' WHERE id = {third}", "third", 2),
        ("UPDATE console_auditentry SET at = at + interval '1 hour' WHERE id = {third}", "third", 2),
        ("DELETE FROM console_auditentry WHERE id = {third}", "fourth", 2),
        ("DELETE FROM console_auditentry WHERE id = {first}", "second", 0),
        (
            INSERT_FORGED,
            "sixth",
            5,
        ),
    ],
    ids=["reason", "changes", "time", "removed", "first removed", "inserted"],
)
def test_verify_names_the_first_entry_that_was_tampered_with(statement, bad, fitting):
    for number in range(5):
        record(f"Order {number}")
    names = dict(zip(("first", "second", "third", "fourth", "fifth"), AuditEntry.objects.order_by("id"), strict=True))
    tamper(statement.format(**{name: entry.pk for name, entry in names.items()}))

    found = audit.verify()

    expected = names[bad].pk if bad in names else AuditEntry.objects.latest("id").pk
    assert found.first_bad_id == expected
    assert found.entries == fitting
    assert found.why


CUT = "DELETE FROM console_auditentry WHERE id > {third}"


def head() -> audit.Anchor:
    found = audit.verify().head
    assert found is not None
    return found


@pytest.mark.django_db
def test_a_tail_that_was_cut_off_shows_beside_an_anchor_only():
    for number in range(5):
        record(f"Order {number}")
    anchor = head()
    tamper(CUT.format(third=AuditEntry.objects.order_by("id")[2].pk))

    assert audit.verify().first_bad_id is None
    found = audit.verify(anchor)
    assert (found.first_bad_id, found.entries) == (anchor.id, 3)
    assert "1 before it were cut off" in found.why

    for number in range(4):  # the product goes on, and the chain is longer than it was
        record(f"Later {number}")
    found = audit.verify(anchor)
    assert found.entries == 4
    assert f"entry {anchor.id} stood in its place" in found.why


@pytest.mark.django_db
def test_a_chain_that_has_grown_since_the_anchor_is_whole():
    record()
    anchor = head()
    record()

    assert audit.verify(anchor).first_bad_id is None
    assert head().entries == 2


@pytest.mark.django_db
def test_the_command_keeps_the_anchor_while_the_chain_is_whole(tmp_path, capsys):
    place = tmp_path / "anchor.json"
    for number in range(3):
        record(f"Order {number}")
    call_command("audit_verify", anchor=place)
    assert capsys.readouterr().out == "The chain is whole: 3 entries fit together.\n"
    record()
    call_command("audit_verify", anchor=place)
    kept = place.read_text()
    assert json.loads(kept)["entries"] == 4

    tamper("DELETE FROM console_auditentry WHERE id = (SELECT max(id) FROM console_auditentry)")
    with pytest.raises(CommandError, match="The 3 entries before fit together"):
        call_command("audit_verify", anchor=place)
    assert place.read_text() == kept
    call_command("audit_verify")


@pytest.mark.django_db
@pytest.mark.parametrize("content", ["", "{}", "{oops", "[]", '{"entries": "many"}'])
def test_an_anchor_that_cannot_be_read_is_not_taken_for_none(tmp_path, content):
    place = tmp_path / "anchor.json"
    place.write_text(content)

    with pytest.raises(CommandError, match=str(place)):
        call_command("audit_verify", anchor=place)

    assert place.read_text() == content


@pytest.mark.django_db
def test_another_key_does_not_verify(settings):
    record()
    settings.AUDIT_KEY = "another key"

    assert audit.verify().first_bad_id == AuditEntry.objects.get().pk


@pytest.mark.django_db(transaction=True)
def test_writers_on_their_own_connections_never_fork_the_chain():
    gate = threading.Barrier(WRITERS)

    def write(name: str) -> None:
        gate.wait()
        try:
            for number in range(EACH):
                record(f"{name} {number}")
        finally:
            connection.close()

    threads = [threading.Thread(target=write, args=(f"writer {number}",)) for number in range(WRITERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    found = audit.verify()
    assert (found.entries, found.first_bad_id) == (WRITERS * EACH, None)
    previous = list(AuditEntry.objects.values_list("previous_hash", flat=True))
    assert len(set(previous)) == WRITERS * EACH


@pytest.mark.django_db(transaction=True)
def test_a_verb_that_fails_leaves_no_entry():
    def fail() -> None:
        with transaction.atomic():
            audit.record(actors.system("test"), "order.change", Thing(), reason="why")
            raise RuntimeError("the verb failed later")

    with pytest.raises(RuntimeError):
        fail()

    assert not AuditEntry.objects.exists()
