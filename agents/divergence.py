"""Where a role does something else than its log says: both requests as people read them, and the difference. Pure."""

import difflib
import json
from collections.abc import Iterator, Mapping, Sequence

from pydantic import JsonValue

from agents.conversation.requests import Requests
from bus.events import CheckEnded, CheckStarted, Effect, ModelAsked, Path, ToolCalled, ToolReturned

_LINES = 24
_LONG = 160


def explain(records: Sequence[Effect], at: int, intent: Effect) -> str:
    """Say how what a role began (`intent`) differs from what one attempt's log has there (`records[at]`)."""
    recorded = lines_of(records[at], records[:at])
    begun = lines_of(intent, records)
    changes = list(difflib.unified_diff(recorded, begun, "recorded", "now", lineterm="", n=1))
    cut = [line if len(line) <= _LONG else f"{line[:_LONG]}…" for line in changes[:_LINES]]
    more = [f"… and {len(changes) - _LINES} lines more"] if len(changes) > _LINES else []
    return "\n".join([f"the role began {named(intent)}, its log has {named(records[at])} there:", *cut, *more])


def named(event: Effect) -> str:
    """Return an effect's kind and place, such as `ModelAsked 0.2`."""
    return f"{type(event).__name__} {dotted(event.path)}"


def dotted(path: Path) -> str:
    """Return a path as people write it."""
    return ".".join(map(str, path))


def lines_of(event: Effect, before: Sequence[Effect]) -> list[str]:
    """Return what an effect asks for, as lines; `before`: the effects of its attempt that a model call may continue."""
    return list(_lines(event, before))


def _lines(event: Effect, before: Sequence[Effect]) -> Iterator[str]:
    match event:
        case ModelAsked():
            yield f"model: {event.model}"
            yield f"tools: {', '.join(event.tools)}"
            yield f"sampling: {json.dumps(event.sampling, sort_keys=True)}"
            for message in _messages(event, before):
                yield from _said(message)
        case ToolCalled() | ToolReturned():
            yield f"tool: {event.tool}"
            for name in sorted(event.arguments):
                yield from f"{name}: {_text(event.arguments[name])}".splitlines()
        case CheckStarted() | CheckEnded():
            yield from json.dumps(event.criterion, ensure_ascii=False, indent=1, sort_keys=True).splitlines()
        case _:
            yield named(event)


def _messages(asked: ModelAsked, before: Sequence[Effect]) -> Sequence[Mapping[str, JsonValue]]:
    """Return all messages of an ask; only its new ones where those before are not in the log."""
    requests = Requests()
    try:
        for event in before:
            requests.take(event)
        whole = requests.take(asked)
    except ValueError:
        return asked.messages
    return whole.messages if whole else asked.messages


def _said(message: Mapping[str, JsonValue]) -> Iterator[str]:
    for name, value in message.items():
        if name != "role":
            yield from f"{message.get('role')}: {_text(value)}".splitlines()


def _text(value: JsonValue) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)
