"""Where a role does something else than its log says: both requests as people read them, and the difference. Pure."""

import json
from collections.abc import Iterator, Sequence

from agents.conversation.difference import difference, text_difference
from agents.conversation.requests import Requests
from bus.events import CheckEnded, CheckStarted, Effect, Message, ModelAsked, Path, ToolCalled, ToolReturned


def explain(records: Sequence[Effect], at: int, intent: Effect) -> str:
    """Say how what a role began (`intent`) differs from what one attempt's log has there (`records[at]`)."""
    recorded = records[at]
    parts = [f"the role began {named(intent)}, its log has {named(recorded)} there:"]
    parts.append(text_difference("\n".join(_lines(recorded)), "\n".join(_lines(intent))))
    if isinstance(recorded, ModelAsked) and isinstance(intent, ModelAsked):
        parts.append(difference(_messages(recorded, records[:at]), _messages(intent, records)))
    return "\n".join(part for part in parts if part)


def named(event: Effect) -> str:
    """Return an effect's kind and place, such as `ModelAsked 0.2`."""
    return f"{type(event).__name__} {dotted(event.path)}"


def dotted(path: Path) -> str:
    """Return a path as people write it."""
    return ".".join(map(str, path))


def _lines(event: Effect) -> Iterator[str]:
    """Yield what an effect asks for, as lines; a model call without its messages."""
    match event:
        case ModelAsked():
            yield f"model: {event.model}"
            yield f"tools: {', '.join(event.tools)}"
            yield f"sampling: {json.dumps(event.sampling, sort_keys=True)}"
        case ToolCalled() | ToolReturned():
            yield f"tool: {event.tool}"
            for name in sorted(event.arguments):
                value = event.arguments[name]
                yield f"{name}: {value if isinstance(value, str) else json.dumps(value, sort_keys=True)}"
        case CheckStarted() | CheckEnded():
            yield json.dumps(event.criterion, ensure_ascii=False, indent=1, sort_keys=True)
        case _:
            yield named(event)


def _messages(asked: ModelAsked, before: Sequence[Effect]) -> Sequence[Message]:
    """Return all messages of an ask; only its new ones where those before are not in the log."""
    requests = Requests()
    try:
        for event in before:
            requests.take(event)
        whole = requests.take(asked)
    except ValueError:
        return asked.messages
    return whole.messages if whole else asked.messages
