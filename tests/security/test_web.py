"""Answers to hostile requests: headers, hosts, methods, bodies, addresses."""

from __future__ import annotations

import pytest
from django.conf import settings as project
from django.test import Client

from console.roles import Role
from tests.builders import a_user

pytestmark = pytest.mark.django_db


def admin() -> Client:
    client = Client(raise_request_exception=False)
    client.force_login(a_user(Role.ADMIN))
    return client


@pytest.mark.parametrize("address", ["/", "/runs/", "/accounts/login/", "/api/v1/runs", "/nope"])
@pytest.mark.parametrize("host", ["evil.test", "127.0.0.1.evil.test", "a b", "127.0.0.1:80/evil", ""])
def test_a_foreign_host_is_refused_with_a_sentence(address, host):
    """The page that refuses must not ask for the host again: that ended in an error without any page."""
    answer = admin().get(address, HTTP_HOST=host, HTTP_REFERER="http://[::1")

    assert answer.status_code == 400
    assert "evil" not in answer.content.decode()


@pytest.mark.parametrize(
    "address", ["/runs/", "/approvals/", "/nope", "/accounts/login/", "/api/v1/runs", "/api/v1/docs"]
)
def test_every_answer_carries_the_protecting_headers(address):
    answer = admin().get(address)

    assert "no-store" in answer["Cache-Control"] and "private" in answer["Cache-Control"]
    assert "default-src 'none'" in answer["Content-Security-Policy"]
    assert "unsafe" not in answer["Content-Security-Policy"]
    assert answer["X-Frame-Options"] == "DENY"
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert answer["Referrer-Policy"] == "same-origin"


@pytest.mark.parametrize("address", ["/healthz", "/readyz"])
def test_probes_are_not_sniffed_or_kept(address):
    answer = Client().get(address)

    assert answer["X-Content-Type-Options"] == "nosniff"
    assert answer["Cache-Control"] == "no-store"


def test_static_files_are_answered_inside_the_protecting_headers():
    order = project.MIDDLEWARE
    static = order.index("servestatic.middleware.ServeStaticMiddleware")

    for name in ("csp.middleware.CSPMiddleware", "django.middleware.clickjacking.XFrameOptionsMiddleware"):
        assert order.index(name) < static, name


@pytest.mark.parametrize(
    "address",
    [
        "/runs/run_zzz/", "/runs/run_01arz3ndektsv4rrffq69g5fav/", "/runs/run_0/../../settings/", "/api/v1/agents/%00",
        "/runs/%00/", "/agents/..%2f..%2fetc/", "/audit/99999999999999999999999/", "/releases/compare/?a=%00&b='",
        "/runs/?cursor=%00&q=%00&status=%00&agent=%00", "/approvals/?view=%00&agent=%00&q=%00", "/overview/?day=%00",
        "/palette/?q=%00", "/start/people/?q=%00", "/audit/?actor=%00&object=%00&action=%00&from=%00",
        "/audit/?from=9999999999", "/runs/?cursor=AAAA", "/audit/?after=%F0%9F%92%A9", "/runs/rows/?cursor=%ff",
    ],
)  # fmt: skip
def test_no_address_breaks_the_server_or_tells_its_inside(address):
    answer = admin().get(address)

    assert answer.status_code < 500, answer.status_code
    said = answer.content.decode()
    assert str(project.BASE_DIR) not in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    "posted",
    [
        {"agent": "\0", "text": "\0", "person": "\0", "principal_id": "\0", "user_id": "\0", "reason": "\0"},
        {"agent": "shop-support", "text": "x" * 200_000, "person": "x" * 5000},
        {"text": "\ud800".encode("utf-8", "surrogatepass")},
    ],
)
@pytest.mark.parametrize("address", ["/start/", "/switches/engage/", "/settings/tokens/", "/settings/"])
def test_no_form_breaks_the_server(address, posted):
    assert admin().post(address, posted).status_code < 500
