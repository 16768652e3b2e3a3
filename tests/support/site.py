"""A small real HTTP site on loopback, bad answers included; by hand `python -m tests.support.site FOLDER`.

It writes bytes as they are told, so that answers can be wrong in ways that a proper server would not let pass.
"""

import asyncio
import contextlib
import mimetypes
import ssl
import sys
import zlib
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]
"""Writes one whole answer; the connection is closed after it."""


class Site:
    """Serves answers by path; `heads` are the requests seen, `hits` their first lines."""

    def __init__(
        self, answers: Mapping[str, Answer], host: str = "127.0.0.1", port: int = 0, tls: ssl.SSLContext | None = None
    ) -> None:
        self.answers = dict(answers)
        self.heads: list[str] = []
        self.host = host
        self.port = port
        self.tls = tls
        self._server: asyncio.Server | None = None
        self._busy: set[asyncio.Task[None]] = set()

    @property
    def hits(self) -> list[str]:
        """The first line of each request, in their order."""
        return [head.partition("\r\n")[0] for head in self.heads]

    @property
    def origin(self) -> str:
        """The host and port, as a permission names them."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def url(self, path: str = "/") -> str:
        """The address of a page."""
        return f"{'https' if self.tls else 'http'}://{self.origin}{path}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, self.host, self.port, ssl=self.tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server
        self._server.close()
        for task in self._busy:
            task.cancel()
        await asyncio.gather(*self._busy, return_exceptions=True)
        await self._server.wait_closed()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._busy.add(task)
        task.add_done_callback(self._busy.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A client that has seen enough hangs up in the middle: that is what most of these answers are for.
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ssl.SSLError):
            try:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                self.heads.append(head)
                path = head.split(" ")[1].partition("?")[0]
                await self.answers.get(path, page("<p>Not here.</p>", status=404))(writer)
                await writer.drain()
            finally:
                writer.close()
                await writer.wait_closed()


def raw(text: bytes) -> Answer:
    """Exactly these bytes."""

    async def write(writer: asyncio.StreamWriter) -> None:
        writer.write(text)

    return write


def _head(status: int, *headers: str) -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status} As Told", *headers, "Connection: close", "", ""]).encode("utf-8")


def page(body: str | bytes, kind: str = "text/html; charset=utf-8", status: int = 200) -> Answer:
    """A proper answer."""
    content = body.encode() if isinstance(body, str) else body
    return raw(_head(status, f"Content-Type: {kind}", f"Content-Length: {len(content)}") + content)


def redirect(location: str, status: int = 302) -> Answer:
    """Send the client elsewhere, to whatever is written."""
    return raw(_head(status, f"Location: {location}", "Content-Length: 0"))


def gzip_bomb(mebibytes: int = 64) -> Answer:
    """Zeros, compressed to about a thousandth."""
    packer = zlib.compressobj(wbits=31)
    packed = b"".join(packer.compress(bytes(1_048_576)) for _ in range(mebibytes)) + packer.flush()
    return raw(
        _head(200, "Content-Type: text/plain", "Content-Encoding: gzip", f"Content-Length: {len(packed)}") + packed
    )


def endless(kind: str = "text/plain") -> Answer:
    """A body that never ends, as fast as it is read."""

    async def write(writer: asyncio.StreamWriter) -> None:
        writer.write(_head(200, f"Content-Type: {kind}"))
        while True:
            writer.write(b"and so on, " * 4096)
            await writer.drain()

    return write


def drip(interval_s: float) -> Answer:
    """A body of which one byte comes at a time, for ever: never silent for long, never done."""

    async def write(writer: asyncio.StreamWriter) -> None:
        writer.write(_head(200, "Content-Type: text/plain"))
        while True:
            writer.write(b".")
            await writer.drain()
            await asyncio.sleep(interval_s)  # the drip itself; no test waits for it

    return write


async def silent(writer: asyncio.StreamWriter) -> None:
    """Never answer, and keep the connection until the site ends."""
    del writer
    await asyncio.Event().wait()


def folder(root: Path) -> dict[str, Answer]:
    """The files of a folder as pages, read now; `index.html` also as its folder."""
    answers: dict[str, Answer] = {}
    for file in sorted(root.rglob("*")):
        if file.is_file():
            path = "/" + file.relative_to(root).as_posix()
            kind = mimetypes.guess_type(path)[0] or "text/plain"
            answers[path] = page(file.read_bytes(), f"{kind}; charset=utf-8")
            if file.name == "index.html":
                answers[path.removesuffix("index.html")] = answers[path]
    return answers


async def _main(root: Path, port: int) -> None:
    async with Site(folder(root), port=port) as site:
        print(f"{root} is at {site.url()} until Ctrl-C; grant it with private_hosts: [{site.origin!r}]", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    if len(sys.argv) not in {2, 3}:
        sys.exit("usage: python -m tests.support.site FOLDER [PORT]")
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) == 3 else 8080))
