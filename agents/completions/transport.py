"""The SDK's way to the network: an HTTP transport that trusts neither the environment nor the other side.

It follows no redirect, takes no proxy from the environment, keeps no cookies, sends only the headers listed here, and
reads at most `ANSWER_CAP` bytes, counted after decompression. What goes wrong on the wire leaves it as `TryFailed`.
Imported on the first call only: it loads the HTTP libraries.
"""

import zlib
from collections.abc import Callable
from ssl import SSLContext

import aiohttp
import httpx2

from agents.model import TryFailed

ANSWER_CAP = 8 * 1024 * 1024
"""Bytes of one answer, decompressed."""

CONNECT_TIMEOUT_S = 10.0
_SENT_HEADERS = frozenset({"accept", "content-type", "user-agent"})


class BoundedTransport(httpx2.AsyncBaseTransport):
    """One pool of connections to one endpoint, `key` its bearer key; without `ssl` only for `http:` URLs."""

    def __init__(self, ssl: SSLContext | None, key: str | None) -> None:
        self._own_headers = {"accept-encoding": "identity"}
        if key:
            self._own_headers["authorization"] = f"Bearer {key}"
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=ssl or False),  # calls are counted elsewhere
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            timeout=aiohttp.ClientTimeout(sock_connect=CONNECT_TIMEOUT_S),
        )

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request and read its whole answer. Raises `TryFailed`."""
        headers = {name: value for name, value in request.headers.items() if name in _SENT_HEADERS}
        headers |= self._own_headers
        begun = False
        try:
            async with self._session.request(
                request.method,
                str(request.url),
                headers=headers,
                data=request.content or None,
                allow_redirects=False,
            ) as response:
                begun = True
                return httpx2.Response(
                    response.status,
                    headers={name.lower(): value for name, value in response.headers.items() if _is_ours(name)},
                    content=await _whole(response),
                    request=request,
                )
        except (aiohttp.ClientError, OSError) as error:
            raise _lost(error, begun=begun) from error

    async def aclose(self) -> None:
        """Close all connections."""
        await self._session.close()


def _is_ours(header: str) -> bool:
    """Whether a header still says the truth once the body is read and decompressed."""
    return header.lower() not in {"content-encoding", "content-length", "transfer-encoding"}


def _lost(error: Exception, *, begun: bool) -> TryFailed:
    """Say what a broken connection means for the call."""
    what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.InvalidURL):
        return TryFailed("unavailable", what, remedy="Check the endpoint's URL and certificate.")
    if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
        return TryFailed("server", what)
    if isinstance(error, aiohttp.ClientResponseError):
        return TryFailed("nonsense", f"no HTTP answer: {what}", unproven=True)
    if begun:
        return TryFailed("lost", f"the answer broke off: {what}", unproven=True)
    return TryFailed("server", f"the connection ended before an answer: {what}", unproven=True)


async def _whole(response: aiohttp.ClientResponse) -> bytes:
    """Read a body up to the cap. Raises `TryFailed` for more, and for a redirect."""
    if 300 <= response.status < 400:  # noqa: PLR2004
        target = response.headers.get("location", "")[:200]
        said = f"the endpoint answers HTTP {response.status} and points to {target!r}; the key is not sent elsewhere"
        raise TryFailed("too_big", said, status=response.status, remedy="Set the endpoint's URL to where it is.")
    read, done = _decoder(response.headers.get("content-encoding", "identity").strip().lower())
    parts: list[bytes] = []
    size = 0
    async for chunk in response.content.iter_any():
        part = read(chunk, ANSWER_CAP + 1 - size)
        size += len(part)
        if size > ANSWER_CAP:
            said = f"the answer is larger than {ANSWER_CAP // 2**20} MiB"
            raise TryFailed("too_big", said, unproven=True, status=response.status)
        parts.append(part)
    if not done():
        raise TryFailed("lost", "the compressed answer broke off", unproven=True, status=response.status)
    return b"".join(parts)


def _decoder(encoding: str) -> tuple[Callable[[bytes, int], bytes], Callable[[], bool]]:
    """Return (chunk, most bytes wanted -> plain bytes) and (is it whole?). Raises `TryFailed` for an unknown coding."""
    if encoding in {"", "identity"}:
        return (lambda chunk, _most: chunk), lambda: True
    if encoding not in {"gzip", "x-gzip", "deflate"}:
        raise TryFailed(
            "nonsense", f"the answer is encoded as {encoding[:40]!r}, which nobody asked for", unproven=True
        )
    inflate = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)

    def read(chunk: bytes, most: int) -> bytes:
        try:
            return inflate.decompress(chunk, most)
        except zlib.error as error:
            raise TryFailed("nonsense", f"the answer is broken {encoding}: {error}", unproven=True) from error

    return read, lambda: inflate.eof
