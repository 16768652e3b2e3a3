"""Fetches one page, from nowhere but where the run's permissions reach.

Alone knows how a page is fetched with aiohttp. The rules stand in `agents/web/addresses.py`; here they are asked where
nothing gets around them: before a name is looked up, for all the addresses it has, and, last and decisive, where the
socket to one address is made. What becomes of the page is left to the tools.
"""

import asyncio
import os
import re
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from agents.errors import ToolFailed, ToolRefused
from agents.web.addresses import Reach, host_of, page_url
from bus.setup import Permissions

Lookup = Callable[[str], Awaitable[Sequence[str]]]
"""A host's name -> its IP addresses. Raises `OSError` where it has none."""

AddressInfo = tuple[int | socket.AddressFamily, int | socket.SocketKind, int, str, tuple]  # type: ignore[type-arg] # aiohttp's own type
"""One result of `getaddrinfo`: family, kind, protocol, canonical name, address."""

SHOWN_LENGTH = 200
"""Characters of an address that an error shows."""

_SUCCESS = 2
"""The first digit of the statuses that bring what was asked for."""
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_TEXT = re.compile(r"text/.+|application/(.+\+)?(json|xml)|.+/.+\+(json|xml)")
_HEADERS = {
    "User-Agent": "eventswarm",
    "Accept": "text/html, text/*;q=0.9, application/json;q=0.9, application/xml;q=0.9",
    "Accept-Encoding": "gzip, deflate",
}
_OUT_OF_REACH = (
    "its host is not at a public address. Others are reached only where the scenario names them as host:port in "
    "`permissions.private_hosts`."
)


@dataclass(frozen=True, slots=True)
class Caps:
    """What one fetch may take."""

    connect_s: float = 3.0
    silence_s: float = 10.0
    whole_s: float = 30.0
    size: int = 1_048_576
    """Bytes of the body, after decompression."""
    redirects: int = 5
    header: int = 8_190
    """Bytes of one header line."""
    headers: int = 64


CAPS = Caps()


@dataclass(frozen=True, slots=True)
class Page:
    """A page as it came: its address after all redirects, its type in lower case, its bytes decompressed."""

    url: str
    media_type: str
    charset: str | None
    body: bytes


async def look_up(host: str) -> list[str]:
    """Ask the system's resolver."""
    found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))


async def fetch(address: str, permissions: Permissions, *, caps: Caps = CAPS, lookup: Lookup = look_up) -> Page:
    """Fetch a page of text: `text/*`, JSON or XML.

    Raises `ToolRefused` where the permissions do not reach, `ToolFailed` where the answer is no page that can be read:
    its status, type, size or time, or a broken connection. What is said of a page redirected to does not name it: a
    site outside should not learn, nor tell a model, which addresses there are inside.
    """
    trail: list[str] = []
    try:
        async with asyncio.timeout(caps.whole_s):
            return await _follow(address, Reach.of(permissions), caps, lookup, trail)
    except ToolFailed as error:
        raise type(error)(_about(address, trail, str(error))) from error
    except TimeoutError as error:
        raise ToolFailed(_about(address, trail, "it did not answer in time. Try another source.")) from error
    except (aiohttp.ClientError, OSError) as error:
        raise ToolFailed(_about(address, trail, _in_words(error))) from error


def _about(address: str, trail: list[str], reason: str) -> str:
    shown = address if len(address) <= SHOWN_LENGTH else address[:SHOWN_LENGTH] + "…"
    return f"{shown!r} was not fetched: {'it redirects elsewhere, and there ' if trail else ''}{reason}"


async def _follow(address: str, reach: Reach, caps: Caps, lookup: Lookup, trail: list[str]) -> Page:
    """Fetch, going along with redirects by hand; `trail` takes each `Location` as it comes."""
    gate = _Gate(reach, lookup)
    target = page_url(address)
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(
            resolver=gate, socket_factory=gate.open_socket, use_dns_cache=False, force_close=True
        ),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=caps.connect_s, sock_read=caps.silence_s),
        headers=_HEADERS,
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
        max_line_size=caps.header,
        max_field_size=caps.header,
        max_headers=caps.headers,
    ) as session:
        while True:
            gate.aim(target)
            async with session.get(target, allow_redirects=False) as response:
                location = response.headers.get("Location")
                if location is None or response.status not in _REDIRECTS:
                    return await _read(response, caps)
            trail.append(location)
            if len(trail) > caps.redirects:
                raise ToolFailed(f"it goes on redirecting, more than {caps.redirects} times.")
            target = page_url(location, base=target)


async def _read(response: aiohttp.ClientResponse, caps: Caps) -> Page:
    if response.status // 100 != _SUCCESS:
        raise ToolFailed(f"the site answered with status {response.status}.")
    media_type = response.content_type.lower()
    if not _TEXT.fullmatch(media_type):
        raise ToolFailed(f"it is of type {media_type[:80]!r}; only text, HTML, JSON and XML can be read.")
    body = bytearray()
    async for piece in response.content.iter_chunked(65_536):
        body += piece
        if len(body) > caps.size:
            raise ToolFailed(f"it is larger than {caps.size} bytes. Look for a shorter page.")
    return Page(str(response.url), media_type, response.charset, bytes(body))


class _Gate(AbstractResolver):
    """Lets the connections of one fetch through, or refuses them.

    aiohttp asks `resolve` for names only and goes straight to `open_socket` with an address that is written out, so
    that the latter alone decides; the former also refuses a name of which any one address is out of reach.
    """

    def __init__(self, reach: Reach, lookup: Lookup) -> None:
        self._reach = reach
        self._lookup = lookup
        self._known: dict[str, Sequence[str]] = {}
        self._public = False
        self._private_name = False
        self._pinned: frozenset[str] = frozenset()

    def aim(self, url: URL) -> None:
        """Judge the next request by its host and port. Raises `ToolRefused`."""
        self._public = self._reach.admit(url)
        self._private_name = (host_of(url), url.port) in self._reach.private
        self._pinned = frozenset()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Look a name up, once in a fetch, so that its second answer cannot differ from the first."""
        name = host.lower().removesuffix(".")  # not every system knows `localhost.`
        if name not in self._known:
            self._known[name] = await self._lookup(name)
        addresses = self._known[name]
        if self._private_name:
            self._pinned = frozenset(addresses)
        for address in addresses:
            self._check(address, port)
        families = [socket.AF_INET6 if ":" in address else socket.AF_INET for address in addresses]
        return [
            ResolveResult(hostname=host, host=address, port=port, family=kind, proto=0, flags=socket.AI_NUMERICHOST)
            for address, kind in zip(addresses, families, strict=True)
            if family in {socket.AF_UNSPEC, kind}
        ]

    def open_socket(self, info: AddressInfo) -> socket.socket:
        """Make the socket to one address, the one really connected to."""
        family, kind, protocol, _, sockaddr = info
        self._check(str(sockaddr[0]), int(sockaddr[1]))
        return socket.socket(family, kind, protocol)

    async def close(self) -> None:
        """Nothing is held."""

    def _check(self, address: str, port: int) -> None:
        if not self._reach.permits(address, port, public=self._public, pinned=self._pinned):
            raise ToolRefused(_OUT_OF_REACH)


def _in_words(error: aiohttp.ClientError | OSError) -> str:
    """Say what went wrong. The error's own text is not shown: it may name addresses, or quote the answer."""
    match error:
        case aiohttp.ClientConnectorDNSError():
            return "its host's name is not known. Check its spelling."
        case aiohttp.ClientSSLError():
            return "its TLS certificate or handshake is not valid."
        case aiohttp.ClientPayloadError():
            return "the answer broke off or could not be decompressed."
        case aiohttp.ClientResponseError():
            return "the answer is not proper HTTP, or its headers are too long."
        case OSError(errno=int(number)) if number > 0:
            return f"the connection failed ({os.strerror(number).lower()})."
        case _:
            return "the connection broke off before an answer came."
