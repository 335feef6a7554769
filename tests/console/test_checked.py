"""The rules of outgoing HTTP under another client (SECURITY D41): what MCP servers are reached through."""

from __future__ import annotations

import asyncio
import socket

import httpx2
import pytest

from console import checked, fetch
from tests.console.test_fetch import here, names, server

__all__ = ["here", "names", "server"]


def get(url, **options):
    async def go():
        async with httpx2.AsyncClient(transport=checked.Transport(), trust_env=False, timeout=2, **options) as client:
            return await client.get(url)

    return asyncio.run(go())


def test_an_allowed_host_is_reached(here, server):
    answer = get(f"{here}/path?a=b", headers={"X-Ours": "1"})

    assert (answer.status_code, answer.content) == (200, b"hello")
    assert server.seen[0][0] == "/path?a=b"


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1:{}/", "http://2130706433:{}/", "http://0x7f.1:{}/", "http://[::ffff:127.0.0.1]:{}/",
     "http://localhost:{}/", "http://[::1]:{}/"],
)  # fmt: skip
def test_what_leads_inside_is_refused(server, url):
    with pytest.raises(fetch.Refused):
        get(url.format(server.server_port))

    assert server.seen == []


def test_an_address_with_a_password_is_refused_also_where_the_host_is_allowed(here, server):
    with pytest.raises(fetch.Refused, match="password"):
        get(here.replace("//", "//ada:secret@"))

    assert server.seen == []


@pytest.mark.parametrize("addresses", [["127.0.0.1"], ["8.8.8.8", "10.0.0.1"]])
def test_a_name_is_refused_when_any_of_its_addresses_leads_inside(names, server, addresses):
    names["inside.test"] = addresses

    with pytest.raises(fetch.Refused):
        get(f"http://inside.test:{server.server_port}/")

    assert server.seen == []


def test_a_name_that_changes_its_mind_reaches_only_the_checked_address(names, server, monkeypatch):
    names["rebind.test"] = [["8.8.8.8"], ["127.0.0.1"]]
    connected = []

    async def connect(backend, host, port, *args, **kwargs):
        connected.append((host, port))
        raise checked.httpcore2.ConnectError("no network in tests")

    monkeypatch.setattr(checked.httpcore2.AnyIOBackend, "connect_tcp", connect)

    with pytest.raises(httpx2.ConnectError):
        get(f"http://rebind.test:{server.server_port}/")

    assert connected == [("8.8.8.8", server.server_port)]


@pytest.mark.parametrize("target", ["http://127.0.0.2:{}/", "http://localhost:{}/", "http://[::1]:{}/"])
def test_a_redirect_to_the_inside_is_refused(here, server, target):
    with pytest.raises(fetch.Refused):
        get(f"{here}/to?{target.format(server.server_port)}", follow_redirects=True)

    assert len(server.seen) == 1


def test_a_proxy_of_the_environment_is_not_used(here, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")

    assert get(f"{here}/x").status_code == 200


def test_who_is_away_or_late_is_told_apart(here, server):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    with pytest.raises(httpx2.ConnectError):
        get(f"http://127.0.0.1:{port}/")
