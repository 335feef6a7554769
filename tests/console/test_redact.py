from __future__ import annotations

import json

import pytest

from console import redact
from tests.patience import at_most

SECRETS = [
    "sk-ant-" + "a1" * 20,
    "AKIAABCDEFGHIJKLMNOP",
    "AIza" + "b" * 35,
    "ghp_" + "c" * 36,
    "xoxb-123456789012-abcdef",
    "sth_abcd1234_" + "e" * 43,
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.c2lnbmF0dXJlLWhlcmU",
    "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA\n-----END RSA PRIVATE KEY-----",
]


@pytest.mark.parametrize("secret", SECRETS)
def test_a_credential_is_masked_wherever_it_stands(secret):
    masked = redact.text(f"use {secret} here")

    assert secret not in masked
    assert masked.startswith("use ")
    assert masked.endswith(" here")


def test_a_named_secret_keeps_its_name():
    assert redact.text("password=hunter2222") == f"password={redact.MASK}"


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("DB_PASSWORD=hunter2222", "DB_PASSWORD=•••"),
        ("aws_secret_access_key = wJalrXUtnFEMI/K7MDENG", "aws_secret_access_key = •••"),
        ("{'password': 'hunter two, with spaces'}", "{'password': '•••'}"),
        ('{\\"refresh_token\\": \\"hunter2222\\"}', '{\\"refresh_token\\": \\"•••\\"}'),
        ('passwd="never closed', 'passwd="••• closed'),
        ("-H 'Authorization: Basic aHVudGVyMjI='", "-H 'Authorization: Basic •••'"),
        ("x-api-key: hunter2222, Bearer abcdef0123456789", "x-api-key: •••, Bearer •••"),
    ],
)
def test_a_named_secret_is_found_in_every_spelling(text, masked):
    assert redact.text(text) == masked
    assert redact.text(masked) == masked
    assert redact.may_hold_secret(json.dumps({"error": text}))


def test_what_only_sounds_like_a_named_secret_stays():
    text = "The bearer of this-longest-of-letters has page_token=abcdefgh, max_tokens: 4000; authorization: needed"

    assert redact.text(text) == text


def test_secrets_in_pairs_and_numbers_are_masked():
    given = [
        {"name": "Authorization", "value": "x"},
        {"key": "dbPassword", "value": 4711},
        {"pwd": 4711, "has_pwd": True},
    ]

    assert redact.value(given) == [
        {"name": "Authorization", "value": redact.MASK},
        {"key": "dbPassword", "value": redact.MASK},
        {"pwd": redact.MASK, "has_pwd": True},
    ]


def test_an_address_keeps_its_host():
    masked = redact.text("postgresql://ada:s3cret-word@db.internal/shop")

    assert masked == f"postgresql://{redact.MASK}@db.internal/shop"


def test_fields_with_a_secrets_name_are_masked_whole():
    masked = redact.value({"api_key": "x", "nested": [{"Authorization": "Bearer y"}], "order": "1042"})

    assert masked == {"api_key": redact.MASK, "nested": [{"Authorization": redact.MASK}], "order": "1042"}


def test_both_sides_of_a_changed_secret_are_masked():
    assert redact.value({"password": ["old-word", "new-word"], "token": None}) == {
        "password": [redact.MASK, redact.MASK],
        "token": None,
    }


def test_ordinary_texts_stay():
    text = "Refund order 1042 to Ana Lima, $129.00, because the token of thanks never came."

    assert redact.text(text) == text
    assert not redact.has_secret({"text": text, "amount": 129, "items": ["lamp"]})


@pytest.mark.parametrize("text", ["-----BEGIN PRIVATE KEY-----" * 2000, "eyJ" + "a" * 60_000, "password=" * 20_000])
def test_hostile_texts_are_scanned_in_time(text):
    with at_most(5):
        redact.text(text)


@pytest.mark.parametrize("secret", [*SECRETS, "password=hunter2222", "postgresql://ada:s3cret-word@db.internal/shop"])
def test_the_quick_look_misses_no_credential_in_a_json_text(secret):
    assert redact.may_hold_secret(json.dumps({"note": [f"see {secret}\n"]}, ensure_ascii=False))


@pytest.mark.parametrize("name", ["Password", "api-key", "token", "set-cookie", "PRIVATE_KEY", "client_secret"])
def test_the_quick_look_misses_no_field_with_a_secrets_name(name):
    assert redact.value({name: "x"}) != {name: "x"}
    assert redact.may_hold_secret(json.dumps({name: "x"}))


def test_the_quick_look_lets_ordinary_text_pass():
    assert not redact.may_hold_secret('{"text": "Order 10482 was sent to https://shop.example/track?id=7 on Friday."}')
