"""Connections to PostgreSQL that are lost at chosen moments: after a statement was done, or before it was sent."""

from collections.abc import Callable
from typing import Literal

from bus.postgres.server import Connection, Server

Fate = Literal["done", "unsent"] | None
"""What becomes of a statement whose answer never comes; None: it comes."""


class Lossy:
    """Opens connections that ask `fate` at each statement. `statements`: all that were begun, in order."""

    def __init__(self, url: str, fate: Callable[[str], Fate] = lambda _: None) -> None:
        self._server = Server(url)
        self.fate = fate
        self.statements: list[str] = []
        self.open: list[Connection] = []

    async def __call__(self, *, read_only: bool) -> Connection:
        connection = await self._server.connect(read_only=read_only)
        self.open.append(connection)
        return LossyConnection(self, connection)


class LossyConnection:
    """A connection whose every statement, COMMIT among them, may be its last."""

    def __init__(self, lossy: Lossy, connection: Connection) -> None:
        self._lossy = lossy
        self._connection = connection

    async def _do(self, name: str, query: str, *args: object, timeout: float | None = None) -> object:
        self._lossy.statements.append(query)
        fate = self._lossy.fate(query)
        if fate == "unsent":
            self._lose()
        result = await getattr(self._connection, name)(query, *args, timeout=timeout)
        if fate == "done":
            self._lose()
        return result

    def _lose(self) -> None:
        self._connection.terminate()
        raise ConnectionResetError("the connection was lost")

    async def execute(self, query: str, *args: object, timeout: float | None = None) -> object:
        return await self._do("execute", query, *args, timeout=timeout)

    async def fetch(self, query: str, *args: object, timeout: float | None = None) -> object:
        return await self._do("fetch", query, *args, timeout=timeout)

    async def fetchrow(self, query: str, *args: object, timeout: float | None = None) -> object:
        return await self._do("fetchrow", query, *args, timeout=timeout)

    async def fetchval(self, query: str, *args: object, timeout: float | None = None) -> object:
        return await self._do("fetchval", query, *args, timeout=timeout)

    def transaction(self) -> "LossyTransaction":
        return LossyTransaction(self)

    def is_closed(self) -> bool:
        return self._connection.is_closed()

    def terminate(self) -> None:
        self._connection.terminate()

    async def close(self, *, timeout: float | None = None) -> None:
        await self._connection.close(timeout=timeout)


class LossyTransaction:
    """BEGIN and COMMIT as statements like others."""

    def __init__(self, connection: LossyConnection) -> None:
        self._connection = connection

    async def __aenter__(self) -> None:
        await self._connection.execute("BEGIN")

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            await self._connection.execute("COMMIT")
        elif not self._connection.is_closed():
            await self._connection.execute("ROLLBACK")
