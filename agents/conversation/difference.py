"""Where two requests part, for people: the first message that differs, as a unified diff of bounded length. Pure."""

import difflib
from collections.abc import Iterator, Sequence

from agents.conversation.structured import dumps
from bus.events import Message

_NAMES = ("recorded", "now")
LINES = 14
"""Lines of a diff that are shown; what follows the first difference follows from it."""
_WIDTH = 100
"""Characters of a line; longer ones are broken, so that a change inside of one can be seen."""
_COMPARED = 400
"""Lines of a message that are compared, from a little before the first that differs: finding a diff is quadratic."""


def common(one: Sequence[Message], other: Sequence[Message]) -> int:
    """Return how many messages two requests have in common from the beginning on."""
    return next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def difference(before: Sequence[Message], now: Sequence[Message]) -> str:
    """Say at which message two requests part, and how; empty where they are the same."""
    at = common(before, now)
    if at == len(before) == len(now):
        return ""
    one, other = (messages[at] if at < len(messages) else None for messages in (before, now))
    role = (other or one or {}).get("role")
    if one is None or other is None:
        only = _NAMES[1] if one is None else _NAMES[0]
        told = f"the first {at} messages are the same, then {only} goes on with one of the {role}:"
    else:
        more = max(len(before), len(now)) - at - 1
        told = f"message {at + 1} of {len(now)}, of the {role}, differs{' first' if more else ''}:"
    return f"{told}\n{text_difference(as_text(one), as_text(other))}"


def text_difference(before: str, now: str) -> str:
    """Return the difference of two texts as a unified diff, cut to `LINES`."""
    one, other = [*_lines(before)], [*_lines(now)]
    same = next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    begin = max(same - 3, 0)
    shown = difflib.unified_diff(
        one[begin : begin + _COMPARED], other[begin : begin + _COMPARED], *_NAMES, lineterm="", n=3
    )
    lines = [line for line in shown if not line.startswith("@@")]
    if len(lines) > LINES:
        lines = [*lines[:LINES], f"… and {len(lines) - LINES} lines more"]
    return "\n".join(lines)


def as_text(message: Message | None) -> str:
    """Return a message as text to compare: what it says, then its tool calls, one a line."""
    if message is None:
        return ""
    content = message.get("content")
    parts = [content if isinstance(content, str) else dumps(content)] if content is not None else []
    calls = message.get("tool_calls")
    for call in calls if isinstance(calls, list) else ():
        function = call.get("function") if isinstance(call, dict) else None
        parts.append(f"call {dumps(function if function is not None else call)}")
    return "\n".join(parts)


def _lines(text: str) -> Iterator[str]:
    for line in text.splitlines() or [""]:
        yield from (line[start : start + _WIDTH] for start in range(0, max(len(line), 1), _WIDTH))
