"""What a scenario may do, in lines for people: for `check`, `run --dry-run` and the question of trust."""

import json
from collections.abc import Iterable, Iterator, Mapping

from pydantic import JsonValue

from swarm.runs.named_code import NamedCode
from swarm.views.terminal import one_line

_LONG = 200


def said(may: Mapping[str, JsonValue]) -> Iterator[str]:
    """Yield a line for each thing that `swarm.scenario.may.may` found; what is none is left out."""
    told = {
        "run code from": may["code"],
        "run code of the installed": may["modules"],
        "run in the sandbox": may["commands"],
        "act outward with": may["outward_tools"],
        "read the environment's": may["environment"],
        "read": may["reads"],
        "read, outside of its folder,": may["reads_outside"],
        "reach the private hosts": may["private_hosts"],
    }
    for what, names in told.items():
        if isinstance(names, list) and names:
            yield f"{what} {_listed(names)}"
    if isinstance(may["endpoints"], dict) and may["endpoints"]:
        yield f"send its texts to {_listed([f'{host} ({name})' for name, host in may['endpoints'].items()])}"
    given = may["given"] if isinstance(may["given"], dict) else {}
    for role, options in given.items():
        yield f"make {one_line(role, _LONG)} with {one_line(json.dumps(options, ensure_ascii=False), _LONG)}"
    tools = may["tools"] if isinstance(may["tools"], dict) else {}
    if any(isinstance(granted, list) and "fetch_page" in granted for granted in tools.values()):
        yield f"read web pages of {_fetch(may['fetch'])}"
    for role, granted in tools.items():
        names = [str(tool) for tool in granted] if isinstance(granted, list) else []
        yield f"{one_line(role, _LONG)}: {_listed(names) or 'no tools'}"


def named(code: NamedCode) -> str:
    """Return what a log names as code, and what a class is made with, as one line."""
    made = f", made with {one_line(code.options, _LONG)}" if code.options not in {"", "{}"} else ""
    return f"{one_line(code.reference, _LONG)} from {one_line(str(code.folder.absolute()), _LONG)}{made}"


def _fetch(fetch: JsonValue) -> str:
    if isinstance(fetch, list):
        return _listed(fetch)
    return {"public": "any public host", "none": "no host"}.get(str(fetch), str(fetch))


def _listed(names: Iterable[object]) -> str:
    return ", ".join(one_line(str(name), _LONG) for name in names)
