"""How what a run wishes and what a hub or a worker allows become what it gets: never more than either. Pure."""

from collections.abc import Iterable, Mapping
from typing import Literal

from agents.errors import ToolRefused
from agents.web.addresses import WEB_PORTS, HostPattern
from bus.setup import Limits, Permissions

Fetch = Literal["public", "none"] | tuple[str, ...]
"""As in `Permissions`."""

NOTHING = Permissions(fetch="none")
"""Reaches nowhere."""


def capped_permissions(wanted: Permissions, cap: Permissions) -> Permissions:
    """Return what both allow.

    A host that the cap names counts as named, also where the wish was `public`: `agents/web/flow.py` takes it for one
    that a person has thought of.
    """
    return Permissions(
        fetch=common_fetch(wanted.fetch, cap.fetch),
        private_hosts=tuple(host for host in dict.fromkeys(wanted.private_hosts) if host in cap.private_hosts),
        sandbox=common_hosts(wanted.sandbox, cap.sandbox),
    )


def capped_limits(wanted: Limits, cap: Mapping[str, int]) -> Limits:
    """Return the smaller of each; `cap` by the fields of `Limits`, and what it does not name is not capped."""
    smaller: dict[str, int] = {}
    for name, most in cap.items():
        wish: int | None = getattr(wanted, name)  # None: no limit on money
        smaller[name] = most if wish is None else min(wish, most)
    return wanted.model_copy(update=smaller)


def common_fetch(one: Fetch, other: Fetch) -> Fetch:
    """Return what may be fetched where both hold: a page is within the answer only if it is within each."""
    if "none" in (one, other):
        return "none"
    if isinstance(one, str):
        return other if isinstance(other, str) else _on_the_web(other)
    return _on_the_web(one) if isinstance(other, str) else common_hosts(one, other)


def common_hosts(one: Iterable[str], other: Iterable[str]) -> tuple[str, ...]:
    """Return the hosts that both lists mean: `*.x` and `a.x` have `a.x` in common, `x` and `x:443` have `x:443`.

    An entry that cannot be read means nothing.
    """
    others = _patterns(other)
    found = [common for entry in _patterns(one) for against in others if (common := _common(entry, against))]
    return tuple(dict.fromkeys(_written(each) for each in found))


def is_host(entry: str) -> bool:
    """Tell whether an entry of `fetch` can be read: `host`, `*.host`, each with `:port` or without."""
    return bool(_patterns([entry]))


def _on_the_web(hosts: Iterable[str]) -> tuple[str, ...]:
    """Return what of these `public` has too: it means the ports of the web alone."""
    meant = [one for one in _patterns(hosts) if one.port is None or one.port in WEB_PORTS]
    return tuple(dict.fromkeys(_written(one) for one in meant))


def _patterns(entries: Iterable[str]) -> list[HostPattern]:
    found = []
    for entry in entries:
        try:
            found.append(HostPattern.parse(entry))
        except ToolRefused:
            continue  # where it is used it would grant nothing either
    return found


def _common(one: HostPattern, other: HostPattern) -> HostPattern | None:
    narrow, wide = (one, other) if len(one.host) >= len(other.host) else (other, one)
    below = wide.subdomains and narrow.host.endswith(f".{wide.host}")
    same = narrow.host == wide.host and narrow.subdomains == wide.subdomains
    ports = [port for port in (one.port, other.port) if port is not None]
    fits = len({*ports}) <= 1 and (len(ports) != 1 or ports[0] in WEB_PORTS)
    return HostPattern(narrow.host, next(iter(ports), None), narrow.subdomains) if (below or same) and fits else None


def _written(pattern: HostPattern) -> str:
    host = f"[{pattern.host}]" if ":" in pattern.host else pattern.host
    port = "" if pattern.port is None else f":{pattern.port}"
    return f"{'*.' if pattern.subdomains else ''}{host}{port}"
