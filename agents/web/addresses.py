"""Which addresses a run may fetch from: rules about URLs, hosts and IP addresses, without any I/O.

`fetching.py` asks them at each step of a fetch: `page_url` for the text of an address, `Reach.admit` before its name
is looked up, `Reach.permits` for the IP address that is about to be connected to.
"""

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from yarl import URL

from agents.errors import ToolRefused
from bus.setup import Permissions

URL_LENGTH = 8_000
"""Characters of the longest address taken (RFC 9110, section 4.1, asks for at least this)."""
WEB_PORTS = frozenset({80, 443})

_NAME_LENGTH = 253  # RFC 1035, without the length bytes
_UNSAFE = re.compile(r"[\x00-\x20\x7f-\xa0\\\u2028\u2029\ud800-\udfff]")
_NOT_IN_AN_ENTRY = re.compile(r"[/?#@\\\s]")
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER = re.compile(r"\d+|0x[0-9a-f]*")

# The IANA special-purpose registries, written out because what `ipaddress` calls global differs between versions of
# Python.
_SPECIAL_V4 = tuple(
    IPv4Network(network)
    for network in (
        "0.0.0.0/8",  # this host
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # behind a carrier's NAT
        "127.0.0.0/8",  # loopback
        "168.63.129.16/32",  # inside Azure: globally assigned, answered by the virtual machine's host
        "169.254.0.0/16",  # link-local, and the metadata of clouds
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocols
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",  # relays of 6to4
        "192.168.0.0/16",  # private
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and broadcast
    )
)
_GLOBAL_UNICAST = IPv6Network("2000::/3")
_SPECIAL_V6 = tuple(IPv6Network(network) for network in ("2001::/23", "2001:db8::/32", "3fff::/20"))
_MAPPED = (IPv6Network("::ffff:0:0/96"), IPv6Network("::/96"), IPv6Network("64:ff9b::/96"))
_6TO4 = IPv6Network("2002::/16")


def embedded_ipv4(address: IPv6Address) -> IPv4Address | None:
    """Return the IPv4 address that an IPv6 address stands for.

    Mapped (RFC 4291), compatible (the same, deprecated), NAT64 (RFC 6052) and 6to4 (RFC 3056). Teredo (RFC 4380) needs
    no unwrapping: its whole network is special.
    """
    number = int(address)
    if any(address in network for network in _MAPPED):
        return IPv4Address(number & 0xFFFF_FFFF)
    if address in _6TO4:
        return IPv4Address(number >> 80 & 0xFFFF_FFFF)
    return None


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Tell whether an address belongs to the public internet; IPv4 inside IPv6 is judged as IPv4."""
    if isinstance(address, IPv6Address):
        if address.scope_id is not None:
            return False
        inner = embedded_ipv4(address)
        if inner is None:
            return address in _GLOBAL_UNICAST and not any(address in network for network in _SPECIAL_V6)
        address = inner
    return not any(address in network for network in _SPECIAL_V4)


def host_of(url: URL) -> str:
    """Return a URL's host in the one form that is compared: lower case, IDNA, no last dot, no brackets."""
    host = (url.raw_host or "").lower().removesuffix(".")
    literal = as_address(host)
    return str(literal) if literal else host


def as_address(host: str) -> IPv4Address | IPv6Address | None:
    """Return the IP address that a host is written as, None where it is a name."""
    try:
        return ip_address(host)
    except ValueError:
        return None


def page_url(text: str, base: URL | None = None) -> URL:
    """Return the address of a page from text, relative to `base` if there is one; without its fragment.

    Refused is all that programs read in different ways: user names, backslashes, spaces, escapes in a host, numbers
    as hosts in other forms than `1.2.3.4`. Raises `ToolRefused` with the reason alone.
    """
    if len(text) > URL_LENGTH:
        raise ToolRefused(f"the address is longer than {URL_LENGTH} characters.")
    if _UNSAFE.search(text):
        raise ToolRefused("the address holds spaces, backslashes or control characters; write them percent-encoded.")
    try:
        url = URL(text)
        url = (base.join(url) if base else url).with_fragment(None)
        port = url.port
    except ValueError as error:
        raise ToolRefused("the address cannot be read as a URL.") from error
    if url.scheme not in {"http", "https"}:
        raise ToolRefused("only addresses that begin with http:// or https:// are fetched.")
    if url.raw_user is not None or url.raw_password is not None:
        raise ToolRefused("an address with a user name or password is not fetched.")
    if not port or not _is_host((url.raw_host or "").lower()):
        raise ToolRefused("the address has no usable host; write it like https://www.example.com/page.")
    return url


def _is_host(host: str) -> bool:
    if as_address(host):
        return "%" not in host  # a zone such as fe80::1%eth0 has a meaning on this machine only
    labels = host.removesuffix(".").split(".")
    # A last label that is a number makes resolvers read the whole as IPv4: 127.1, 0x7f.1, 2130706433 (WHATWG URL).
    return (
        len(host) <= _NAME_LENGTH
        and all(_LABEL.fullmatch(label) for label in labels)
        and not _NUMBER.fullmatch(labels[-1])
    )


@dataclass(frozen=True, slots=True)
class HostPattern:
    """One entry of `fetch` or `private_hosts`: `host`, `*.host`, each with `:port` or without."""

    host: str
    port: int | None
    subdomains: bool = False

    @classmethod
    def parse(cls, entry: str) -> "HostPattern":
        """Read an entry. Raises `ToolRefused` where it is not one; the scenario's check comes long before."""
        wrong = ToolRefused(f"the scenario's permission {entry!r} is not a host or host:port.")
        if _NOT_IN_AN_ENTRY.search(entry):
            raise wrong
        try:
            url = URL(f"http://{entry.removeprefix('*.')}")
            port = url.explicit_port
        except ValueError as error:
            raise wrong from error
        if not _is_host(host_of(url)):
            raise wrong
        return cls(host_of(url), port, entry.startswith("*."))

    def matches(self, host: str, port: int) -> bool:
        """Tell whether a host and port are meant. `*.x` never means `x`; without a port 80 and 443 are meant."""
        same_host = host.endswith("." + self.host) if self.subdomains else host == self.host
        return same_host and (port in WEB_PORTS if self.port is None else port == self.port)


@dataclass(frozen=True, slots=True)
class Reach:
    """What a run's permissions mean for fetching.

    A host of `private_hosts` is granted as it is written, beside those of `fetch`, unless `fetch` is `none`.
    """

    granted: tuple[HostPattern, ...] | None
    """None: every public host, on the ports of the web."""
    private: frozenset[tuple[str, int]]
    none: bool = False

    @classmethod
    def of(cls, permissions: Permissions) -> "Reach":
        """Read a run's permissions. Raises `ToolRefused` where an entry is unreadable."""
        fetch = permissions.fetch
        granted = None if isinstance(fetch, str) else tuple(HostPattern.parse(entry) for entry in fetch)
        private = [HostPattern.parse(entry) for entry in permissions.private_hosts]
        pairs = frozenset((one.host, one.port) for one in private if one.port is not None and not one.subdomains)
        return cls(granted, pairs, none=fetch == "none")

    def admit(self, url: URL) -> bool:
        """Decide by host and port, before any name is looked up; return whether a public address will do.

        Where it will not, only the private pairs do. Raises `ToolRefused` with the reason alone.
        """
        host, port = host_of(url), url.port or 0
        if self.none:
            raise ToolRefused("this scenario grants no fetching (`permissions.fetch: none`).")
        if self.granted is not None:
            if any(pattern.matches(host, port) for pattern in self.granted):
                return True
            if (host, port) in self.private:
                return False
            named = "its host" if as_address(host) else f"{host}:{port}"
            raise ToolRefused(f"{named} is not among the hosts that this scenario grants in `permissions.fetch`.")
        if port in WEB_PORTS:
            return True
        if any(port == private_port for _, private_port in self.private):
            return False
        raise ToolRefused("only ports 80 and 443 are granted; others must stand in `permissions` as host:port.")

    def permits(self, address: str, port: int, *, public: bool, pinned: frozenset[str] = frozenset()) -> bool:
        """Tell whether this very address may be connected to.

        `public` is what `admit` said of the host; `pinned` are the addresses to which a private host of exactly this
        name and port was resolved.
        """
        if address in pinned or (address, port) in self.private:
            return True
        literal = as_address(address)
        return public and literal is not None and is_public(literal)
