"""Who names one of several records means that one: its id and its values, and none of its siblings'."""

from __future__ import annotations

from typing import Any

import pytest

from runtime.policies import provenance
from runtime.policies.provenance import Justified, Knowledge, Labels, Origin, Unjustified

STAFF = Labels(effect="read", is_trusted=True, minted=("staff_id",))
JOBS = Labels(effect="read", minted=("job_id",), system=("job_id",))
WRITE_TO = Labels(effect="egress", arguments={"to": "destination", "text": "content"})
ASSIGN = Labels(effect="write", arguments={"job_id": "target", "staff_id": "target"})
PEOPLE = [
    {"staff_id": "s-1", "name": "Helen Moss", "mail": "h.moss@mill.example", "team": "Night shift"},
    {"staff_id": "s-2", "name": "Raj Patel", "mail": "r.patel@mill.example", "team": "Day shift"},
]
WORK = [{"job_id": "j-1", "title": "Repair the north pump"}, {"job_id": "j-2", "title": "Paint the gate"}]
TEXT = "The pump is late."


def verdict(said: str, labels: Labels, **arguments: Any) -> Justified | Unjustified:
    known = Knowledge(is_tainted=True)
    known.hear(said)
    known.read(1, STAFF, {}, PEOPLE, tool="list_staff")
    known.read(2, JOBS, {}, WORK, tool="list_jobs")
    return provenance.decide(known, labels, arguments)


def is_let(said: str, labels: Labels, **arguments: Any) -> bool:
    return isinstance(verdict(said, labels, **arguments), Justified)


@pytest.mark.parametrize(
    ("said", "to", "is_meant"),
    [
        ("Tell Helen Moss that the pump is late", "h.moss@mill.example", True),
        ("Tell Ms Moss that the pump is late", "h.moss@mill.example", True),
        ("Tell Helen Moss that the pump is late", "r.patel@mill.example", False),
        ("Tell Ms Moss that the pump is late", "r.patel@mill.example", False),
        ("Tell the night shift that the pump is late", "r.patel@mill.example", False),
        ("Tell Helen Moss that the pump is late", ["h.moss@mill.example", "r.patel@mill.example"], False),
        ("Tell Helen Moss and Raj that the pump is late", ["h.moss@mill.example", "r.patel@mill.example"], True),
        ("Tell Helen Moss and r.patel@mill.example that the pump is late", "r.patel@mill.example", True),
        ("Tell everybody that the pump is late", ["h.moss@mill.example", "r.patel@mill.example"], True),
    ],
)
def test_a_value_of_another_row_than_the_named_one_is_on_nobodys_word(said: str, to: Any, is_meant: bool):
    assert is_let(said, WRITE_TO, to=to, text=TEXT) is is_meant


def test_the_card_says_who_was_named_instead():
    found = verdict("Tell Helen Moss that the pump is late", WRITE_TO, to="r.patel@mill.example", text=TEXT)

    alone = next(each.source for each in found.evidence if each.source.origin is Origin.NOBODY)
    assert provenance.sentence(alone) == "on nobody's word: the user has named “Helen Moss”, another record"


@pytest.mark.parametrize(
    ("said", "job", "staff", "is_meant"),
    [
        ("Give the repair of the north pump to Raj Patel", "j-1", "s-2", True),
        ("Give the repair of the north pump to Raj Patel", "j-2", "s-2", False),
        ("Give the repair of the north pump to Raj Patel", "j-1", "s-1", False),
        ("Give the repair of the north pump to Raj Patel", ["j-1", "j-2"], "s-2", False),
        ("Give Raj Patel all jobs", ["j-1", "j-2"], "s-2", True),
        ("Give Raj Patel j-2", "j-2", "s-2", True),
    ],
)
def test_the_id_of_another_record_than_the_named_one_is_on_nobodys_word(
    said: str, job: Any, staff: str, is_meant: bool
):
    assert is_let(said, ASSIGN, job_id=job, staff_id=staff) is is_meant


@pytest.mark.parametrize(
    ("said", "is_let_through"),
    [
        ("Paint the gate", False),
        ("Paint the gate, then do everything else", True),
        ("The gate is done, now both the others", True),
        ("Do the open one", True),
        ("Do them after K-2", True),
    ],
)
def test_who_speaks_of_all_of_a_state_or_of_an_id_excludes_no_sibling(said: str, is_let_through: bool):
    jobs = [
        {"job_id": "j-1", "title": "Repair the north pump", "state": "closed", "next": "K-1"},
        {"job_id": "j-2", "title": "Paint the gate", "state": "open", "next": "K-2"},
    ]
    known = Knowledge(is_tainted=True)
    known.hear(f"{said} with Raj Patel")
    known.read(1, JOBS, {}, jobs, tool="list_jobs")
    hire = Labels(effect="write", arguments={"job_id": "target", "person": "destination"})

    found = provenance.decide(known, hire, {"job_id": "j-1", "person": "Raj Patel"})

    assert isinstance(found, Justified) is is_let_through


def test_records_of_other_lists_and_other_fields_are_no_siblings():
    known = Knowledge(is_tainted=True)
    known.hear("Give the job of the Night shift to Raj Patel")
    known.read(1, JOBS, {}, [{"job_id": "j-1", "title": "Repair the north pump"}], tool="list_jobs")
    known.read(2, JOBS, {}, [{"job_id": "j-2", "team": "Night shift"}], tool="list_jobs")
    known.read(3, JOBS, {}, [{"job_id": "j-3", "title": "Night shift"}], tool="list_plans")
    hire = Labels(effect="write", arguments={"job_id": "target", "person": "destination"})

    assert isinstance(provenance.decide(known, hire, {"job_id": "j-1", "person": "Raj Patel"}), Justified)


def test_a_name_with_a_number_is_named_by_both():
    known = Knowledge(is_tainted=True)
    known.hear("Order two Mixer 16 for the hall")
    known.read(1, Labels(effect="read", is_trusted=True), {}, [{"model": "Mixer 14"}, {"model": "Mixer 16"}])
    order = Labels(effect="egress", arguments={"model": "commitment"})

    assert isinstance(provenance.decide(known, order, {"model": "Mixer 16"}), Justified)
    assert isinstance(provenance.decide(known, order, {"model": "Mixer 14"}), Unjustified)


@pytest.mark.parametrize(
    ("said", "staff", "is_meant"),
    [
        ("Give everyone of the night shift 50 EUR", "s-1", True),
        ("Give everyone of the night shift 50 EUR", "s-3", True),
        ("Give everyone of the night shift 50 EUR", "s-2", False),
        ("Give everyone 50 EUR, also Raj Patel", "s-1", True),
    ],
)
def test_all_of_a_kind_are_those_that_share_it(said: str, staff: str, is_meant: bool):
    more = {"staff_id": "s-3", "name": "Ola Berg", "mail": "o.berg@mill.example", "team": "Night shift"}
    known = Knowledge(is_tainted=True)
    known.hear(said)
    known.read(1, STAFF, {}, [*PEOPLE, more], tool="list_staff")
    pay = Labels(effect="egress", arguments={"staff_id": "target", "amount": "amount"})

    assert isinstance(provenance.decide(known, pay, {"staff_id": staff, "amount": 50}), Justified) is is_meant


@pytest.mark.parametrize(
    ("said", "service", "is_meant"),
    [
        ("checkout is slow, bump it to 8 replicas", "checkout", True),
        ("checkout is slow, bump it to 8 replicas", "web", False),
        ("web is slow since we changed checkout, bump web to 8 replicas", "web", True),
        ("bump all services to 8 replicas", "web", True),
    ],
)
def test_an_id_that_is_a_word_names_its_record(said: str, service: str, is_meant: bool):
    known = Knowledge(is_tainted=True)
    known.hear(said)
    services = [{"service": "checkout", "version": "3.2.0"}, {"service": "web", "version": "2.15.0"}]
    known.read(1, Labels(effect="read", is_trusted=True, minted=("service",)), {}, services, tool="list_services")
    scale = Labels(effect="write", arguments={"service": "target", "replicas": "amount"})

    assert isinstance(provenance.decide(known, scale, {"service": service, "replicas": 8}), Justified) is is_meant
