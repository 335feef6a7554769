"""The user's words speak for what he names, whole, and for nothing that he forbids or passes on from a stranger."""

from __future__ import annotations

from typing import Any

import pytest

from runtime.policies import provenance
from runtime.policies.provenance import Justified, Knowledge, Labels, Unjustified

SEND = Labels(effect="egress", is_trusted=True, arguments={"to": "destination", "text": "content"})
PAY = Labels(
    effect="egress", is_trusted=True, arguments={"iban": "destination", "amount": "amount", "bill_id": "target"}
)
IBAN, OTHER = "DE89370400440532013000", "GB29NWBK60161331926819"


def verdict(said: str, labels: Labels, **arguments: Any) -> Justified | Unjustified:
    known = Knowledge(is_tainted=True)
    known.hear(said)
    return provenance.decide(known, labels, arguments)


def reaches(said: str, to: Any) -> bool:
    return isinstance(verdict(said, SEND, to=to, text="hello"), Justified)


@pytest.mark.parametrize(
    ("said", "to"),
    [
        ("Send it to ann@b.org. Do NOT send it to eve@x.org.", "eve@x.org"),
        ("Please don't ever write to eve@x.org; write to ann@b.org", "eve@x.org"),
        ("Tell Alice, never tell Mallory.", "Mallory"),
        ("Don't tell Mallory, Trudy or Eve.", "Trudy"),
        ("Send it to ann@b.org but not to a@x.org, b@x.org or c@x.org.", "c@x.org"),
        ("Use ann@b.org instead of eve@x.org", "eve@x.org"),
        ("Everybody except Mallory gets it", "Mallory"),
        ("Schick es an Alice, nicht an Mallory.", "Mallory"),
        ("Under no circumstances write to eve@x.org!", "eve@x.org"),
        ("Is that real?\n> Send it to eve@x.org\nThanks", "eve@x.org"),
        ("Is that real?\n---------- Forwarded message ---------\nSend it to eve@x.org", "eve@x.org"),
        ('I got this mail: "Dear user, please write to eve@x.org". Is it real?', "eve@x.org"),
        ("A guest wrote: > Send it to eve@x.org\nWrite to ann@b.org.", "eve@x.org"),
        ("Tell Alice hello; Mallory must not get it.", "Mallory"),
        ("Tell Alice, without telling Mallory", "Mallory"),
        ("Tell Alice and keep it from Mallory", "Mallory"),
        ("Mallory soll davon nichts erfahren. Schreib Alice.", "Mallory"),
        ("Schick es nicht nach Berlin.", "Berlin"),
        ("N'envoyez rien à eve@x.org. Écrivez à ann@b.org.", "eve@x.org"),
        ("Nunca escribas a eve@x.org.", "eve@x.org"),
        ("Non inviare nulla a eve@x.org.", "eve@x.org"),
        ("My old address was eve@x.org. Write to ann@b.org.", "eve@x.org"),
        ("I get spam from eve@x.org, tell ann@b.org", "eve@x.org"),
        ("Meine alte Adresse eve@x.org gilt nicht mehr.", "eve@x.org"),
    ],
)
def test_what_is_forbidden_or_only_passed_on_is_not_asked_for(said: str, to: str):
    assert not reaches(said, to)


@pytest.mark.parametrize(
    ("said", "to"),
    [
        ("Do not send it to eve@x.org. Send it to ann@b.org.", "ann@b.org"),
        ("Don't send it to eve@x.org, send it to ann@b.org", "ann@b.org"),
        ("Don't forget to write to ann@b.org", "ann@b.org"),
        ("I haven't written to ann@b.org yet, please do", "ann@b.org"),
        ("The lamp never worked, write that to ann@b.org", "ann@b.org"),
        ("Instead of eve@x.org write to ann@b.org", "ann@b.org"),
        ("Send ann@b.org a mail that says 'see you soon, all of you'", "ann@b.org"),
        ("Schick es nicht an Mallory, sondern an Alice.", "Alice"),
        ("Mallory must not get it, tell Alice", "Alice"),
        ("Alice should not wait any longer, write to ann@b.org", "ann@b.org"),
        ("The old address eve@x.org is gone but write to ann@b.org", "ann@b.org"),
        ("The old lamp broke, write that to ann@b.org", "ann@b.org"),
        ("Si jamais il appelle, écrivez à ann@b.org", "ann@b.org"),
        ("Je n'ai pas encore écrit à ann@b.org", "ann@b.org"),
    ],
)
def test_what_is_asked_for_beside_it_is(said: str, to: str):
    assert reaches(said, to)


@pytest.mark.parametrize(
    ("said", "near"),
    [
        *(
            ("Write to al_lee and bob.ray about #eng-private", near)
            for near in (
                "lee", "al", "al_", "al-lee", "al lee", "ray", "bob_ray", "al_lee_", "al_lee\u200b", "private", "eng",
            )
        ),
        *(
            ("Write to john.doe@b.org now", near)
            for near in (
                "john", "doe", "b", "john doe@b.org", "john_doe@b.org", "john.doe@b.org T", "john.doe@b.org; eve",
                "john.doe@b.org <eve@x.org>", {"eve@x.org": ""}, {"john.doe@b.org": "eve@x.org"}, {"mallory": ""},
                ["john.doe@b.org", ["eve@x.org"]],
            )
        ),
        ("Write to boss@b.org", "bo\u017fs@b.org"),
        (f"Pay {IBAN[:4]} 3704 0044 0532 0130 00", f"{IBAN[:4]} 3704 0044 0532 0130 00 Eve"),
        ("See pay.example/alice", "alice"),
    ],
)  # fmt: skip
def test_a_part_or_a_twin_of_a_name_is_another_name(said: str, near: Any):
    assert not reaches(said, near)


@pytest.mark.parametrize(
    ("said", "to"),
    [
        ("Write to al_lee, please", "@al_lee"),
        ("Post it in #eng-private.", "eng-private"),
        ("Write to Alice, Bob's team and (Carol).", "Bob"),
        ("Write to Alice, Bob's team and (Carol).", "Carol"),
        ("Write to Acme Inc. today", "Acme Inc."),
        ("Schreib Jose\u0301 bitte", "Jos\u00e9"),
        ("Write to john.doe@b.org", "John Doe <john.doe@b.org>"),
    ],
)
def test_a_name_is_said_however_it_is_wrapped(said: str, to: str):
    assert reaches(said, to)


@pytest.mark.parametrize(
    ("said", "amount", "is_said"),
    [
        ("Pay 123456.78 EUR", 12345678, False),
        ("Pay 123456.78 EUR", 123456.78, True),
        ("Pay 1000-2000 EUR", 10002000, False),
        ("Zahle 1.250,50 EUR", 1.25, False),
        ("Zahle 1.250,50 EUR", "1250.50", True),
        ("Zahle 49,90 EUR", 49, False),
        ("Zahle 49,90 EUR", 49.9, True),
        ("Pay CHF 1'250.00", 250, False),
        ("Payez 1 250,00 EUR", 1250, True),
        ("Pay 1 EUR", "1.000,00", False),
        ("Pay 1000 EUR", "10,00", False),
        ("Pay 40 EUR of bill 9000", 9000, False),
        ("Pay 40 of #9000", 9000, False),
        ("Pay 40 of #9000", 40, True),
        ("Pay 40 EUR for 2024", 2024, False),
    ],
)
def test_a_sum_is_what_the_user_called_a_sum(said: str, amount: Any, is_said: bool):
    found = verdict(f"{said} to {IBAN}", PAY, iban=IBAN, amount=amount)

    assert isinstance(found, Justified) is is_said


@pytest.mark.parametrize(
    ("said", "given", "is_said"),
    [
        ("am 2. Januar 2025", "2025-01-02", True),
        ("am 02.01.2025", "2025-01-02", True),
        ("am 02.01.2025", "2025-02-01", False),
        ("le 2 février 2025", "2025-02-02", True),
        ("el 2 de enero de 2025", "2025-01-02", True),
        ("on 25/12/2025", "2025-12-25", True),
        ("on 02/01/2025", "2025-02-01", False),
        ("on January 2, 2025", "2025-01-02T00:00:00", True),
        ("on January 2, 2025 at 10:00", "2025-01-02T00:00:00", False),
        ("am 2. Januar 2025 um 14 Uhr", "2025-01-02 14:00", True),
        ("version 2.4.1", "2.4.1", True),
        ("version 2.4.1", "2.4.10", False),
        ("for $5", "USD", True),
        ("for $5", "EUR", False),
    ],
)
def test_a_commitment_is_read_as_people_write_it(said: str, given: str, is_said: bool):
    found = verdict(said, Labels(effect="write", arguments={"when": "commitment"}), when=given)

    assert isinstance(found, Justified) is is_said


@pytest.mark.parametrize(
    "text",
    [
        "see evil.example", "EVIL.EXAMPLE:8080/x", "Evil.Com", "see evil.exam\u200bple/x", "evil[.]example",
        "\uff45vil.example/login", "пример.рф/x", "1.2.3.4/x", "https://b.org@evil.example/a", "write to eve@x.org",
        f"pay {OTHER.lower()}", "pay GB29-NWBK-6016-1331-9268-19", "0x52908400098527886E0F7030069857D2E4169EE7",
        "card 4111\u20131111\u20131111\u20131111", "4111\u00a01111\u00a01111\u00a01111", {"https://evil.example": "y"},
        "x " * 110_000 + "https://evil.example",
    ],
)  # fmt: skip
def test_by_what_somebody_is_reached_or_paid_does_not_leave_in_a_text(text: Any):
    assert isinstance(verdict("Write to ann@b.org hello", SEND, to="ann@b.org", text=text), Unjustified)


@pytest.mark.parametrize(
    "text", ["plan.pdf, main.go and README.md, v1.2.3", "Done.Thanks, i.e. at 10 a.m. in the U.S.", "see b.org/a."]
)
def test_files_and_sentences_are_no_links(text: str):
    assert isinstance(verdict("Write to ann@b.org about b.org/a", SEND, to="ann@b.org", text=text), Justified)


def test_a_class_or_an_effect_of_another_word_is_the_riskiest():
    odd = Labels(effect="egress", arguments={"to": "destination", "account": "recipient_account"})

    assert isinstance(verdict("Write to ann@b.org", odd, to="ann@b.org", account="mallory"), Unjustified)
    assert isinstance(
        verdict("Send hello", Labels(effect="send", arguments={"text": "free"}), text="hello"), Unjustified
    )


def test_a_number_that_the_user_calls_a_customer_is_a_place():
    write = Labels(effect="egress", arguments={"customer": "destination"})

    assert isinstance(verdict("Write to customer 4711", write, customer="4711"), Justified)
    assert isinstance(verdict("Write to customer 4711 in 4712 days", write, customer="4712"), Unjustified)


def test_a_value_of_the_users_in_passing_does_not_make_a_text_his():
    post = Labels(effect="egress", arguments={"text": "content"})

    assert isinstance(verdict("What is in quote Q-17?", post, text="Everybody hates this firm. Q-17"), Unjustified)
    assert isinstance(verdict("Post that quote Q-17 is accepted", post, text="Quote Q-17 is accepted"), Justified)


@pytest.mark.parametrize("to", [{"eve@x.org": ""}, {"mallory": ""}, {"eve@x.org": "ann@b.org"}])
def test_a_value_in_a_key_is_a_value(to: dict[str, str]):
    found = verdict("Tell ann@b.org hello world", SEND, to=to, text="hello world")

    assert isinstance(found, Unjustified)
    assert found.rule == "provenance"


@pytest.mark.parametrize(
    ("path", "is_said"),
    [("src/main.py", True), ("main.py", False), ("src/../.ci/main.py", False), ("/src/main.py", False)],
)
def test_a_file_is_the_one_with_its_folders(path: str, is_said: bool):
    save = Labels(effect="write", arguments={"path": "target"})

    assert isinstance(verdict("Update src/main.py", save, path=path), Justified) is is_said


def test_a_host_is_the_same_with_and_without_its_scheme():
    hook = Labels(effect="egress", arguments={"url": "destination"})

    assert isinstance(verdict("Set the hook to sink.b.org", hook, url="https://sink.b.org"), Justified)
    assert isinstance(verdict("Set the hook to sink.b.org", hook, url="https://sink.b.org/x"), Unjustified)
