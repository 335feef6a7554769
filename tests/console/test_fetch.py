"""Outgoing HTTP to addresses that others gave us (SECURITY D41)."""

from __future__ import annotations

import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address

import pytest

from console import fetch

real_getaddrinfo = socket.getaddrinfo


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.seen.append((self.path, dict(self.headers)))
        if self.path.startswith("/to?"):
            self.send_response(302)
            self.send_header("Location", self.path.partition("?")[2])
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif self.path == "/large":
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"x" * 5000)
        elif self.path == "/trickle":
            self.send_response(200)
            self.end_headers()
            for _ in range(100_000):
                self.wfile.write(b"x")
                self.wfile.flush()
                time.sleep(0.05)
        else:
            self.send_response(200)
            self.send_header("X-Mark", "here")
            self.end_headers()
            self.wfile.write(b"hello")

    def do_POST(self):
        self.server.seen.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
        self.do_GET()

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    found = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.daemon_threads = True
    found.seen = []
    thread = threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield found
    found.shutdown()
    thread.join()
    found.server_close()


@pytest.fixture
def here(server, settings):
    """The server's address, allowed by name."""
    settings.ALLOW_PRIVATE_HOSTS = ["127.0.0.1"]
    return f"http://127.0.0.1:{server.server_port}"


@pytest.fixture
def names(monkeypatch):
    """What names resolve to: a list of addresses, or a list of such lists, one for each time it is asked."""
    known = {}

    def getaddrinfo(host, port, *args, **kwargs):
        if host not in known:
            return real_getaddrinfo(host, port, *args, **kwargs)
        answer = known[host]
        if isinstance(answer[0], list):
            answer = answer.pop(0) if len(answer) > 1 else answer[0]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in answer]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return known


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/",
        "http://127.1/",
        "http://127.0.0.1./",
        "http://2130706433/",
        "http://0x7f000001/",
        "http://0x7f.1/",
        "http://0177.0.0.1/",
        "http://017700000001/",
        "http://0/",
        "http://0.0.0.0/",
        "http://10.0.0.5/",
        "http://172.16.0.1/",
        "http://192.168.1.1/",
        "http://169.254.169.254/latest/meta-data/",
        "http://100.64.0.1/",
        "http://198.18.0.1/",
        "http://224.0.0.1/",
        "http://255.255.255.255/",
        "http://[::1]/",
        "http://[::]/",
        "http://[::ffff:127.0.0.1]/",
        "http://[::ffff:7f00:1]/",
        "http://[::127.0.0.1]/",
        "http://[64:ff9b::7f00:1]/",
        "http://[2002:7f00:1::]/",
        "http://[fe80::1]/",
        "http://[fe80::1%25eth0]/",
        "http://[fc00::1]/",
        "http://[fec0::1]/",
        "http://[ff02::1]/",
        "http://[2001:db8::1]/",
        "http://192.0.0.192/opc/v1/",
        "http://192.88.99.1/",
        "http://168.63.129.16/",
        "http://[::ffff:168.63.129.16]/",
        "http://[3fff::1]/",
        "https://user:secret@example.com/",
        "https://user@example.com/",
        "file:///etc/passwd",
        "gopher://example.com/",
        "ftp://example.com/",
        "javascript:alert(1)",
        "//example.com/",
        "/local",
        "",
        "http://",
        "http:///path",
        "http://example.com:0/",
        "http://example.com:99999/",
        "http://exa mple.com/",
        "http://example.com/\r\nX-Injected: 1",
        "http://example.com\\@127.0.0.1/",
        "http://[::1/",
        "http://ｌocalhost/",
        "https://example.com/" + "x" * 2000,
    ],
)
def test_an_address_that_leads_inside_is_refused_by_its_form(url):
    with pytest.raises(fetch.Refused):
        fetch.check(url)


@pytest.mark.parametrize("url", ["https://example.com/hook", "http://8.8.8.8:8080/x?y=z", "https://[2606:4700::1111]/"])
def test_an_address_on_the_internet_is_accepted(url):
    fetch.check(url)


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "2606:4700::1111", "::ffff:8.8.8.8"])
def test_public(address):
    assert fetch.is_public(ip_address(address))


@pytest.mark.parametrize("addresses", [["127.0.0.1"], ["8.8.8.8", "10.0.0.1"], ["169.254.169.254"]])
def test_a_name_is_refused_when_any_of_its_addresses_leads_inside(names, server, addresses):
    names["inside.test"] = addresses

    with pytest.raises(fetch.Refused):
        fetch.request("GET", f"http://inside.test:{server.server_port}/")

    assert server.seen == []


@pytest.mark.parametrize("name", ["localhost", "localhost.", "ip6-localhost"])
def test_names_of_this_machine_are_refused(server, name):
    with pytest.raises((fetch.Refused, fetch.Failed)):
        fetch.request("GET", f"http://{name}:{server.server_port}/")

    assert server.seen == []


def test_a_name_that_changes_its_mind_reaches_only_the_checked_address(names, server):
    names["rebind.test"] = [["192.0.2.1"], ["127.0.0.1"]]  # first looked at, then used

    with pytest.raises((fetch.Refused, fetch.Failed)):
        fetch.request("GET", f"http://rebind.test:{server.server_port}/", timeout_s=0.5)

    assert server.seen == []


def test_the_connection_goes_to_the_address_that_was_checked(names, server, settings, monkeypatch):
    """A public address that our test server stands behind: what is connected to is what was checked, not the name."""
    names["shop.test"] = [["8.8.8.8"], ["127.0.0.1"]]
    connected = []

    def connect(address, *args, **kwargs):
        connected.append(address)
        raise OSError("no network in tests")

    monkeypatch.setattr(socket, "create_connection", connect)

    with pytest.raises(fetch.Failed):
        fetch.request("GET", "http://shop.test/")

    assert connected == [("8.8.8.8", 80)]


def test_an_allowed_host_is_reached(here, server):
    answer = fetch.request("GET", f"{here}/path?a=b", headers={"X-Ours": "1"})

    assert (answer.status, answer.body, answer.headers["x-mark"]) == (200, b"hello", "here")
    path, headers = server.seen[0]
    assert path == "/path?a=b"
    assert headers["Host"] == f"127.0.0.1:{server.server_port}"
    assert headers["X-Ours"] == "1"


def test_a_body_is_sent(here, server):
    fetch.request("POST", f"{here}/hook", body=b'{"a": 1}')

    assert server.seen[0] == ("/hook", b'{"a": 1}')


def test_redirects_are_not_followed_unless_asked(here):
    assert fetch.request("GET", f"{here}/to?{here}/x").status == 302


def test_a_redirect_is_followed_when_asked_and_not_for_post(here, server):
    assert fetch.request("GET", f"{here}/to?/x", redirects=1).body == b"hello"
    assert fetch.request("GET", f"{here}/to?/to?/x", redirects=1).status == 302
    assert fetch.request("POST", f"{here}/to?/x", body=b"secret", redirects=1).status == 302


@pytest.mark.parametrize(
    "target", ["http://127.0.0.2:{port}/", "http://localhost:{port}/", "file:///etc/passwd", "http://[::1]:{port}/"]
)
def test_a_redirect_to_the_inside_is_refused(here, server, target):
    with pytest.raises(fetch.Refused):
        fetch.request("GET", f"{here}/to?{target.format(port=server.server_port)}", redirects=3)

    assert len(server.seen) == 1


def test_headers_stay_with_the_host_they_were_meant_for(here, server, settings):
    settings.ALLOW_PRIVATE_HOSTS = ["127.0.0.1", "localhost"]

    fetch.request("GET", f"{here}/to?http://localhost:{server.server_port}/x", headers={"X-Key": "s"}, redirects=1)

    assert "X-Key" in server.seen[0][1]
    assert "X-Key" not in server.seen[1][1]


def test_headers_do_not_leave_the_encrypted_way(monkeypatch):
    sent = []

    def send(method, parts, headers, *rest):
        sent.append((parts.scheme, headers))
        return fetch.Answer(302, {"location": "http://example.com/x"}, b"")

    monkeypatch.setattr(fetch, "_send", send)
    fetch.request("GET", "https://example.com/", headers={"X-Key": "s"}, redirects=1)

    assert sent == [("https", {"X-Key": "s"}), ("http", {})]


def test_a_large_answer_is_cut_off(here):
    with pytest.raises(fetch.Failed, match="more than 1,000 bytes"):
        fetch.request("GET", f"{here}/large", largest_bytes=1000)


def test_an_answer_that_trickles_ends_with_the_time(here):
    with pytest.raises(fetch.Failed, match="in time"):
        fetch.request("GET", f"{here}/trickle", timeout_s=0.3)


def test_a_proxy_of_the_environment_is_not_used(here, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")

    assert fetch.request("GET", f"{here}/x").status == 200


def test_a_server_that_is_not_there_and_one_that_speaks_no_tls_fail_with_a_sentence(here, server):
    with pytest.raises(fetch.Failed, match=r"127\.0\.0\.1"):
        fetch.request("GET", "http://127.0.0.1:1/")
    with pytest.raises(fetch.Failed, match=r"127\.0\.0\.1"):
        fetch.request("GET", here.replace("http:", "https:"), timeout_s=2)


def test_an_unknown_name_fails_with_a_sentence():
    with pytest.raises(fetch.Failed, match="resolved"):
        fetch.request("GET", "http://no-such-name.invalid/")
