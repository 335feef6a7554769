"""The one way out for HTTP to addresses that others gave us: callbacks and tools.

A name is resolved here, every address it has is checked, and the connection goes to a checked address: a name that
answers differently the second time (rebinding) reaches nothing. TLS still verifies the certificate for the name.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any
from urllib.parse import SplitResult, urljoin, urlsplit

import httpcore2
from django.conf import settings

LONGEST_URL = 2000
LARGEST_ANSWER_BYTES = 1_000_000
TIMEOUT_S = 10.0
PORTS = {"http": 80, "https": 443}
REDIRECTS = {301, 302, 303, 307, 308}
# What the world routes; outside of it lie loopback, link-local, private and all wrappers around IPv4.
GLOBAL_IPV6 = IPv6Network("2000::/3")
SIX_TO_FOUR = IPv6Network("2002::/16")
# Not of the public internet, though not every Python knows: protocol assignments (among them a cloud's metadata),
# relays of 6to4, documentation, and the address under which Azure talks to the machines in it.
SET_APART = tuple(map(ip_network, ("192.0.0.0/24", "192.88.99.0/24", "3fff::/20", "168.63.129.16/32")))


class Refused(Exception):
    """The address may not be reached from here. Nothing was sent; trying again changes nothing."""


class Failed(Exception):
    """The other side could not be reached, was too slow or sent too much. Trying again may help."""


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]  # names in lower case
    body: bytes


def request(
    method: str,
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
    timeout_s: float = TIMEOUT_S,
    largest_bytes: int = LARGEST_ANSWER_BYTES,
    redirects: int = 0,
) -> Answer:
    """Send one request. `timeout_s` is for all of it, redirects included, however slowly bytes trickle in.

    Redirects are followed only when allowed, only for GET, and each is checked like the first address. Headers are
    not carried to another host, nor from https to http.

    Raises:
        Refused, Failed.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        answer = _send(method, check(url), dict(headers or {}), body, deadline, largest_bytes)
        place = answer.headers.get("location", "")
        if answer.status not in REDIRECTS or not place or method != "GET" or redirects <= 0:
            return answer
        onward = urljoin(url, place)
        if urlsplit(onward)[:2] != urlsplit(url)[:2]:
            headers = None
        url, redirects = onward, redirects - 1


def check(url: str) -> SplitResult:
    """The parts of an address, when its form allows it to be fetched. Names are not resolved yet.

    Raises:
        Refused: with the rule it breaks.
    """
    if len(url) > LONGEST_URL or not url.isascii() or any(letter <= " " or letter == "\\" for letter in url):
        raise Refused(f"An address has at most {LONGEST_URL} plain ASCII characters, without spaces or backslashes.")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError as wrong:
        raise Refused(f"This is no address: {wrong}.") from wrong
    if parts.scheme not in PORTS:
        raise Refused(f"Only http and https are fetched, not {parts.scheme[:20] or 'an address without a scheme'!r}.")
    if parts.username is not None or parts.password is not None:
        raise Refused("An address must not carry a user name or password.")
    if not host or port == 0:
        raise Refused("The address names no host or no usable port.")
    if host not in _allowed():
        literal = _literal(host)
        if literal is not None:
            _check_address(literal)
    return parts


def resolve(host: str, port: int) -> list[str]:
    """Every address of a host, all of them checked.

    Raises:
        Refused: one of them is not on the public internet and the host is not in ALLOW_PRIVATE_HOSTS.
        Failed: the name does not resolve.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as wrong:
        raise Failed(f"The name {host[:100]} could not be resolved.") from wrong
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    if host not in _allowed():
        for address in addresses:
            _check_address(ip_address(address))
    return addresses


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Whether the address belongs to the public internet, looked at through every wrapping."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return is_public(address.ipv4_mapped)
        if address not in GLOBAL_IPV6 or address in SIX_TO_FOUR:
            return False
    if any(address in apart for apart in SET_APART):
        return False
    return address.is_global and not address.is_multicast and not address.is_reserved


def _allowed() -> set[str]:
    return {host.lower().strip("[]") for host in settings.ALLOW_PRIVATE_HOSTS}


def _check_address(address: IPv4Address | IPv6Address) -> None:
    if not is_public(address):
        raise Refused(
            f"{address} is not an address on the public internet. An operator can allow the host by name in "
            "STEADYHAND_ALLOW_PRIVATE_HOSTS."
        )


def _literal(host: str) -> IPv4Address | IPv6Address | None:
    """The address when the host is one, in any of the forms that systems accept (0x7f.1, 017700000001, 127.1)."""
    try:
        return ip_address(host)
    except ValueError:
        pass
    try:
        return IPv4Address(socket.inet_aton(host.rstrip(".")))
    except OSError:
        return None


def _send(
    method: str, parts: SplitResult, headers: dict[str, str], body: bytes, deadline: float, largest_bytes: int
) -> Answer:
    host = parts.hostname or ""
    target = parts._replace(scheme="", netloc="", fragment="").geturl() or "/"
    url = httpcore2.URL(
        scheme=parts.scheme.encode(),
        host=(f"[{host}]" if ":" in host else host).encode(),
        port=parts.port,
        target=(target if target.startswith("/") else f"/{target}").encode(),
    )
    # One connection for one request: nothing is kept open towards an address that was checked long ago.
    sent = {"Host": parts.netloc, "Connection": "close", "Accept-Encoding": "identity", **headers}
    way = _Checked(deadline)
    try:
        with (
            httpcore2.ConnectionPool(network_backend=way, ssl_context=_trusted()) as pool,
            pool.stream(method, url, headers=list(sent.items()), content=body) as response,
        ):
            content = b""
            for chunk in response.iter_stream():
                content += chunk
                if len(content) > largest_bytes:
                    raise Failed(f"{host} answered with more than {largest_bytes:,} bytes.")
            named = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers}
            return Answer(response.status, named, content)
    except httpcore2.TimeoutException as late:
        raise Failed(f"{host} did not answer in time.") from late
    except (httpcore2.NetworkError, httpcore2.ProtocolError, ssl.SSLError, OSError) as lost:
        raise Failed(f"The connection to {host} failed: {str(lost)[:200] or type(lost).__name__}.") from lost


@lru_cache(maxsize=1)
def _trusted() -> ssl.SSLContext:
    """Whom certificates have to come from. Read once: that takes longer than most requests."""
    return ssl.create_default_context()


class _Checked(httpcore2.NetworkBackend):
    """Connects only to checked addresses, and lets no operation outlive the deadline."""

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.plain = httpcore2.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.NetworkStream:
        addresses = resolve(host.strip("[]"), port)
        for place, address in enumerate(addresses):
            try:
                stream = self.plain.connect_tcp(address, port, _left(self.deadline), local_address, socket_options)
                return _Timed(stream, self.deadline)
            except httpcore2.ConnectError:
                if place == len(addresses) - 1:
                    raise
        raise httpcore2.ConnectError(f"{host} has no address")

    def connect_unix_socket(self, path: str, *args: Any, **kwargs: Any) -> httpcore2.NetworkStream:
        raise Refused("Sockets of this machine are not fetched.")


class _Timed(httpcore2.NetworkStream):
    def __init__(self, stream: httpcore2.NetworkStream, deadline: float) -> None:
        self.stream = stream
        self.deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self.stream.read(max_bytes, _left(self.deadline))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self.stream.write(buffer, _left(self.deadline))

    def close(self) -> None:
        self.stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.NetworkStream:
        name = server_hostname.strip("[]") if server_hostname else None
        return _Timed(self.stream.start_tls(ssl_context, name, _left(self.deadline)), self.deadline)

    def get_extra_info(self, info: str) -> Any:
        return self.stream.get_extra_info(info)


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise httpcore2.ReadTimeout("the time is up")
    return left
