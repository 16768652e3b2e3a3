"""A few connections that read, opened when they are first needed. What is read may be asked for again, and is."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from bus.errors import BusError
from bus.postgres.server import Connect, Connection, Row, Server

T = TypeVar("T")

_MOST = 4
RETRY_S = 0.05
MOST_RETRY_S = 1.0


class Reader:
    """Asks a server, over and over for `patience_s` where the connection is lost.

    `opened` has its say over each new connection.
    """

    def __init__(
        self,
        server: Server,
        connect: Connect,
        opened: Callable[[Connection], Awaitable[None]],
        *,
        patience_s: float,
        read_only: bool,
    ) -> None:
        self._server = server
        self._connect = connect
        self._opened = opened
        self._patience_s = patience_s
        self._read_only = read_only
        self._room = asyncio.Semaphore(_MOST)
        self._idle: list[Connection] = []
        self._open = False

    async def open(self) -> None:
        """Look whether the server can be asked. Raises what `opened` does, `StorageFailed`."""
        self._open = True
        try:
            async with self._one():
                pass
        except Exception as error:
            raise self._server.translated(error) from error

    async def close(self) -> None:
        """Close what is open."""
        self._open = False
        self._drop_idle()

    async def fetch(self, query: str, *args: object, timeout: float | None = None) -> list[Row]:  # noqa: ASYNC109
        """Return rows. `timeout`: in seconds, after which the connection counts as lost. Raises `StorageFailed`."""
        return await self.ask(lambda connection: connection.fetch(query, *args, timeout=timeout))

    async def ask(self, ask: Callable[[Connection], Awaitable[T]]) -> T:
        """Do what may be done twice. Raises `StorageFailed`, and what `ask` raises of `BusError`."""
        if not self._open:
            raise RuntimeError("the store is not open: use it inside `async with`")
        loop = asyncio.get_running_loop()
        until, pause_s = loop.time() + self._patience_s, RETRY_S
        while True:
            try:
                async with self._one() as connection:
                    return await ask(connection)
            except BusError:
                raise
            except Exception as error:
                lost = self._server.is_lost(error)
                if lost:  # whatever took it has mostly taken those that were idle beside it too
                    self._drop_idle()
                if not lost or loop.time() + pause_s > until:
                    raise self._server.translated(error) from error
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, MOST_RETRY_S)

    def _drop_idle(self) -> None:
        while self._idle:
            self._idle.pop().terminate()  # they have nothing under way

    @asynccontextmanager
    async def _one(self) -> AsyncIterator[Connection]:
        async with self._room:
            connection = self._idle.pop() if self._idle else await self._new()
            try:
                yield connection
            except BaseException:  # whatever it is, what the connection is at is not known
                connection.terminate()
                raise
            if self._open:
                self._idle.append(connection)
            else:
                connection.terminate()

    async def _new(self) -> Connection:
        connection = await self._connect(read_only=self._read_only)
        try:
            await self._opened(connection)
        except BaseException:
            connection.terminate()
            raise
        return connection
