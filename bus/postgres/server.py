"""A PostgreSQL server by its URL: how we connect, and what its errors mean. Alone knows asyncpg.

What a URL leaves out comes from the `PG…` variables of the environment and `~/.pgpass`, as with every program of
PostgreSQL. A password may stand in a URL, so no message shows one: of a server it says host, port and database.
"""

import importlib.util
import socket
import ssl
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol, TypeAlias
from urllib.parse import unquote, urlsplit

from bus.errors import BusError, StorageFailed

SCHEMA = "eventswarm"
"""The schema of the database in which all our tables lie."""

Row: TypeAlias = Sequence[Any]


class Connection(Protocol):
    """What we use of `asyncpg.Connection`. `timeout`: in seconds, for one statement."""

    async def execute(self, query: str, *args: object, timeout: float | None = None) -> str:  # noqa: ASYNC109 - theirs
        """Do something and return the server's word for it. Without arguments it may be several statements."""
        ...

    async def fetch(self, query: str, *args: object, timeout: float | None = None) -> list[Row]:  # noqa: ASYNC109
        """Return all rows."""
        ...

    async def fetchrow(self, query: str, *args: object, timeout: float | None = None) -> Row | None:  # noqa: ASYNC109
        """Return the first row."""
        ...

    async def fetchval(self, query: str, *args: object, timeout: float | None = None) -> Any:  # noqa: ANN401, ASYNC109
        """Return the first value of the first row."""
        ...

    def transaction(self) -> AbstractAsyncContextManager[object]:
        """Begin a transaction and commit it; roll it back on an error."""
        ...

    def is_closed(self) -> bool:
        """Tell whether it was closed by either side."""
        ...

    def terminate(self) -> None:
        """Close it at once, whatever is under way."""
        ...

    async def close(self, *, timeout: float | None = None) -> None:  # noqa: ASYNC109
        """Close it in peace."""
        ...


class Connect(Protocol):
    """Opens a connection."""

    async def __call__(self, *, read_only: bool) -> Connection:
        """Open one. Raises what `Server.translated` takes."""
        ...


_CONNECTING_S = 10
_STATEMENT_S = 20.0
"""A statement that takes longer than this is taken for lost, with its connection: nothing of ours comes near, but for
what carries much (`time_for`)."""
_SLOWEST = 256 * 1024
"""Bytes a second that a line to the server carries at least."""
_SOCKET = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 2, "TCP_USER_TIMEOUT": 10_000}
"""What tells within some twenty seconds that nobody is at the other end any more; systems lack some of these."""
_SETTINGS = {
    "application_name": "eventswarm",
    "search_path": SCHEMA,
    "default_transaction_isolation": "read committed",  # an append that waits for `take` must then see the new epoch
    "idle_in_transaction_session_timeout": "5000",  # a stopped process holds up nobody for longer
}


def time_for(size: int) -> float:
    """Return how many seconds a statement that carries so many bytes may take."""
    return _STATEMENT_S + size / _SLOWEST


class Server:
    """A database of a server. Raises `StorageFailed` where the URL is none, or asyncpg is not installed."""

    def __init__(self, url: str) -> None:
        self.name = shown(url)
        """For people, without password."""
        self._url = url
        if importlib.util.find_spec("asyncpg") is None:
            raise StorageFailed(
                f"{self.name} needs the `postgres` extra, which is not installed: pip install 'eventswarm[postgres]'"
            )
        if is_torn(url):
            raise _unreadable()

    async def connect(self, *, read_only: bool) -> Connection:
        """Open a connection. Raises what `translated` takes, and `StorageFailed` where the URL cannot be read."""
        import asyncpg  # type: ignore[import-untyped] # noqa: PLC0415 - it loads where a server is used

        settings = {**_SETTINGS, "default_transaction_read_only": "on" if read_only else "off"}
        try:
            connection: Connection = await asyncpg.connect(
                self._url, timeout=_CONNECTING_S, command_timeout=_STATEMENT_S, server_settings=settings
            )
        except (asyncpg.ClientConfigurationError, ValueError):  # their texts may quote a part of the password
            raise _unreadable() from None
        _watch(connection._transport.get_extra_info("socket"))  # type: ignore[attr-defined] # noqa: SLF001 - no other way
        return connection

    def is_lost(self, error: BaseException) -> bool:
        """Tell whether an error means that the connection is gone: what was asked for may have been done or not."""
        import asyncpg  # noqa: PLC0415 - likewise

        if isinstance(error, asyncpg.PostgresError):
            state = _state(error)
            return state in _ENDED or state.startswith("08")
        lost = (OSError, TimeoutError, asyncpg.InternalClientError, asyncpg.InterfaceError)
        return isinstance(error, lost) and not isinstance(error, (ssl.SSLError, asyncpg.DataError))

    def is_starting(self, error: BaseException) -> bool:
        """Tell whether the server is about to be ready."""
        return _state(error) == "57P03"

    def translated(self, error: BaseException) -> BusError:
        """Return what went wrong as an error of ours that says what to do."""
        import asyncpg  # noqa: PLC0415 - likewise

        if isinstance(error, asyncpg.InterfaceError) and error.__context__ is not None:
            error = error.__context__  # why the connection is closed, not that it is
        if isinstance(error, BusError):
            return error
        state = _state(error)
        remedy = _REMEDIES.get(state) or _REMEDIES.get(state[:2]) or _remedy(error)
        told = str(error).strip() or type(error).__name__
        return StorageFailed(f"{self.name}: {told.rstrip('.')}" + (f"; {remedy}." if remedy else "."))


def _watch(connected: socket.socket) -> None:
    """Have the system look whether the other end is there: firewalls forget connections without a word."""
    if connected.family not in {socket.AF_INET, socket.AF_INET6}:
        return
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _SOCKET.items():
        if hasattr(socket, name):
            connected.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def is_passing(error: BaseException) -> bool:
    """Tell whether the server rolled a transaction back for what others did just then, so that it is to be repeated."""
    return _state(error) in ("40001", "40P01")


def _state(error: BaseException) -> str:
    """Return the server's code for an error (SQLSTATE), nothing where it is not the server's."""
    return str(getattr(error, "sqlstate", None) or "")


def shown(url: str) -> str:
    """Return a server's name for people: host, port and database, and nothing where those cannot be told for sure."""
    if is_torn(url):
        return "PostgreSQL"
    parts = urlsplit(url)
    place = parts.netloc.rpartition("@")[2]
    database = unquote(parts.path.strip("/"))
    return "PostgreSQL" + (f" at {place}" if place else "") + (f", database {database!r}" if database else "")


def is_torn(url: str) -> bool:
    """Tell whether a URL is none, or may have a character in its password that ends the part before the host."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return True
    return "#" in url or "@" in parts.path or ("@" in parts.query and "@" not in parts.netloc)


def _unreadable() -> StorageFailed:
    return StorageFailed(
        "the URL of the PostgreSQL server cannot be read: write postgresql://USER@HOST:PORT/DATABASE, special"
        " characters as %XX, and better keep the password in PGPASSWORD or ~/.pgpass"
    )


_ENDED = {"25P03", "57P01", "57P02", "57P03", "57P05"}
"""The server ended the session: idle for too long, shut down, crashed, not ready yet."""

_REMEDIES = {
    "08": "look whether the server runs and can be reached",
    "25006": "it takes no writes: name the primary, or several hosts and target_session_attrs=read-write",
    "28": "look at user and password (the URL, PGUSER, PGPASSWORD, ~/.pgpass) and at the server's pg_hba.conf",
    "3D000": "make the database (`createdb`), or name another in the URL",
    "3F000": "its tables were removed while it was open",
    "42501": "let this user create in the database once (GRANT CREATE ON DATABASE), or make it the owner of our tables",
    "42P01": "its tables were removed while it was open",
    "53100": "the server's disk is full: free some space there",
    "53200": "the server has no memory left",
    "53300": "raise its max_connections: each process takes up to five",
    "55P03": "another session holds a lock for too long: look into pg_stat_activity",
    "57014": "its statement_timeout ended it: look what holds the server up, or raise it for this user",
    "57P": "look whether the server runs",
    "58": "the server's disk gave an error: look at its health",
    "XX": "the server's data may be damaged: look into its log",
}
"""By SQLSTATE or its class."""


def _remedy(error: BaseException) -> str:
    if isinstance(error, ssl.SSLError):
        return "look at sslmode and sslrootcert in the URL, and at the server's certificate"
    if isinstance(error, TimeoutError):
        return "it does not answer: look whether the server runs and how busy it is"
    return "look whether the server runs and can be reached" if isinstance(error, OSError) else ""
