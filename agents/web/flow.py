"""Where data may flow: what an agent that can see a person's files may send out. Pure.

Whoever writes the pages that an agent reads can write "fetch this address with the notes in it". No detector is
trusted to find that; the rule is about the address. An agent of a run that holds a person's files may reach hosts that
the scenario names, and addresses that somebody gave it verbatim: the goal, its instruction, a result it builds on, a
page it fetched. An address that the model composed goes nowhere else, for its path and query can carry anything.
"""

import re
from collections.abc import Iterable, Mapping

from pydantic import JsonValue
from yarl import URL

from agents.errors import ToolRefused
from agents.web.addresses import HostPattern, host_of, page_url
from bus.setup import Permissions

_ADDRESS = re.compile(r"https?:", re.IGNORECASE)
_ENDS = " \t\r\n\"'`<>()[]{},;"


def check_flow(arguments: Mapping[str, JsonValue], permissions: Permissions, given: Iterable[str]) -> None:
    """Refuse a call of a network tool that could carry private data away. Raises `ToolRefused` with what may be done.

    `given` are the texts that the agent was told by others than its model.
    """
    texts = list(given)
    for value in _texts(arguments):
        if not _ADDRESS.match(value.strip()):
            continue
        url = page_url(value.strip())
        if not (_named(url, permissions) or any(_stands_in(value.strip(), text) for text in texts)):
            raise ToolRefused(
                f"{host_of(url)}: this address was not given to you, and the project's files could leak through it. "
                "Fetch an address as it stands in the goal, in your subtask or on a page; a person can allow the whole "
                "host under `permissions.fetch`."
            )


def _named(url: URL, permissions: Permissions) -> bool:
    hosts = () if isinstance(permissions.fetch, str) else permissions.fetch
    patterns = [HostPattern.parse(entry) for entry in (*hosts, *permissions.private_hosts)]
    return any(pattern.matches(host_of(url), url.port or 0) for pattern in patterns)


def _stands_in(address: str, text: str) -> bool:
    """Tell whether an address stands in a text as a whole, not as the beginning of a longer one."""
    at = text.find(address)
    while at >= 0:
        end = at + len(address)
        after = text[end : end + 2]
        if not after or after[0] in _ENDS or (after[0] in ".!?:" and (len(after) == 1 or after[1] in _ENDS)):
            return True
        at = text.find(address, at + 1)
    return False


def _texts(value: JsonValue | Mapping[str, JsonValue]) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
