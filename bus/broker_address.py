"""Where a broker is and who we are to it: `mqtt://user@host:port`, `mqtts://host:port?ca=FILE&cert=FILE&key=FILE`.

Who logs in is said in the address or by `SWARM_BUS_USER`; the password by `SWARM_BUS_PASSWORD`, or by the file that
`SWARM_BUS_PASSWORD_FILE` names. One in the address works too, but other users of the machine see it in the list of
processes. No password is ever part of a text made here.
"""

import os
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from bus.errors import BadAddress
from bus.topics import check_name

USER, PASSWORD, PASSWORD_FILE = "SWARM_BUS_USER", "SWARM_BUS_PASSWORD", "SWARM_BUS_PASSWORD_FILE"
ANONYMOUS = "anonymous"
"""Stands in topics for one who did not log in."""

_PORTS = {"mqtt": 1883, "mqtts": 8883}
_FORM = "mqtt://[USER@]HOST[:PORT] or mqtts://[USER@]HOST[:PORT]?ca=FILE[&cert=FILE&key=FILE]"
_FILES = ("ca", "cert", "key")
_AFTER_COLON = re.compile(r":(?![0-9]{1,5}(?:[/?#]|\Z)).*", re.DOTALL)
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}
_MOST_SECRET_BYTES = 65_535


@dataclass(frozen=True, slots=True)
class BrokerAddress:
    """An address that was understood. Printing it shows no password."""

    host: str
    port: int
    tls: bool = False
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    ca: Path | None = None
    """Who signed the broker's certificate; None: whom the system trusts."""
    cert: Path | None = None
    key: Path | None = None

    @classmethod
    def parse(cls, url: str, environ: Mapping[str, str] = os.environ) -> Self:
        """Read an address, and who we are from the environment. Raises `BadAddress`, whose text shows no password."""
        parts = _split(url)
        options = dict(parse_qsl(parts.query))
        if unknown := options.keys() - set(_FILES):
            raise BadAddress(f"{redacted(url)}: {min(unknown)!r} is no option of an address; write {_FORM}")
        files = {name: Path(path) for name, path in options.items()}
        tls = parts.scheme == "mqtts"
        if files and not tls:
            raise BadAddress(f"{redacted(url)}: certificates are for mqtts://, this address is not encrypted")
        if ("key" in files) != ("cert" in files):
            raise BadAddress(f"{redacted(url)}: 'cert' and 'key' go together: our certificate and its private key")
        user = unquote(parts.username) if parts.username else environ.get(USER) or None
        password = unquote(parts.password) if parts.password else _password(environ)
        if password is not None and user is None:
            raise BadAddress(f"a password for {redacted(url)} is given, but no user; name one in {USER}")
        try:
            port = _PORTS[parts.scheme] if parts.port is None else parts.port
        except ValueError:  # it may quote a password
            port = 0
        if not port:
            raise BadAddress(f"{redacted(url)}: the port is not one; write {_FORM}")
        return cls(parts.hostname or "", port, tls, user, password, **files)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        user = f"{self.user}@" if self.user else ""
        return f"{'mqtts' if self.tls else 'mqtt'}://{user}{host}:{self.port}"

    @property
    def name(self) -> str:
        """Who we are, as it stands in topics, to make them before connecting. Raises `BadAddress` where it cannot."""
        try:
            return check_name(self.user or ANONYMOUS)
        except ValueError as error:
            raise BadAddress(f"{self}: the user's name stands in topics, but {error}") from error

    @property
    def is_local(self) -> bool:
        """Tell whether the broker is on this machine."""
        return self.host in _LOOPBACK

    @property
    def guarded(self) -> bool:
        """Tell whether nobody on the way can listen or pretend: encrypted and with login, or on this machine."""
        return self.is_local or (self.tls and (self.user is not None or self.cert is not None))

    def tls_context(self) -> ssl.SSLContext | None:
        """Return what checks the broker's certificate, None for an address without TLS. Raises `BadAddress`."""
        if not self.tls:
            return None
        try:
            context = ssl.create_default_context(cafile=self.ca)
            if self.cert is not None:
                context.load_cert_chain(self.cert, self.key)
        except (OSError, ValueError) as error:  # an `SSLError` is an `OSError`
            files = ", ".join(str(path) for path in (self.ca, self.cert, self.key) if path is not None)
            raise BadAddress(f"{self}: a certificate or key cannot be used ({files}): {error}") from error
        return context


def redacted(url: str) -> str:
    """Return an address to be shown: without its password, whatever else is wrong with it."""
    scheme, mark, rest = url.partition("://")
    if not mark:
        scheme, rest = "", url
    login, at, place = rest.rpartition("@")
    if not at:  # what stands where a port should may be a password whose host was forgotten
        return f"{scheme}{mark}{_AFTER_COLON.sub(':…', place)}"
    return f"{scheme}{mark}{login.partition(':')[0]}@{place}"


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        host = parts.hostname
        (host or "").encode("idna")  # as it is looked up
    except ValueError:  # its text may quote a password
        raise BadAddress(f"{redacted(url)!r} is no address of a broker; write {_FORM}") from None
    if parts.scheme not in _PORTS or not host or parts.path.strip("/") or parts.fragment:
        raise BadAddress(f"{redacted(url)!r} is no address of a broker; write {_FORM}")
    return parts


def _password(environ: Mapping[str, str]) -> str | None:
    if (given := environ.get(PASSWORD)) is not None:
        return given
    name = environ.get(PASSWORD_FILE)
    if not name:
        return None
    try:
        with Path(name).open("rb") as file:
            found = file.read(_MOST_SECRET_BYTES)
        return found.decode().rstrip("\r\n")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not text"
        raise BadAddress(f"{PASSWORD_FILE}={name} cannot be read: {reason}") from error
