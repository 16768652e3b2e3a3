"""Messages of Chat Completions as the dialogue writes them, and how the log puts them together again. Pure.

What a model wrote is sent back in a form that strict endpoints take: ids made by us, names of allowed characters,
arguments that are a JSON object. What a tool returned stays data: control tokens of chat templates are taken apart, so
that no template can read a turn out of them.
"""

import json
import re
from collections.abc import Sequence
from contextlib import suppress
from typing import Literal, cast

from pydantic import JsonValue

from agents.conversation.fitting import cut_middle
from agents.conversation.structured import dumps, loads, read_object, spoken
from bus.events import CallRequest, Message

Mode = Literal["native", "json"]
"""`native`: the endpoint's own tool calls. `json`: each reply is one JSON action (`json_actions.py`)."""

MAX_CALLS = 32
"""Calls of one reply that are looked at; more are dropped."""
_JUNK = 2_048
"""Bytes kept of a JSON-mode reply that holds no object."""
_LONG = 200
"""Characters of an argument, and of other text, that a shortened message keeps."""
_CONTROL_TOKEN = re.compile(r"<(?=[|\uff5c][^<>|\s]{1,40}[|\uff5c]>)|<(?=/?(?:start_of_turn|end_of_turn|s)>)")
_CONTROL_CHARACTER = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_NOT_IN_NAMES = re.compile(r"[^a-zA-Z0-9_-]")


def call_id(at: int, number: int) -> str:
    """Return the id of a call by position: the index of its message, its place there.

    Nine letters and digits, as the strictest endpoints want, for the first thousand messages.
    """
    return f"call{at:03d}{number:02d}"


def reply_message(text: str | None, calls: Sequence[CallRequest] = (), *, mode: Mode = "native", at: int) -> Message:
    """Make the assistant message that stands for a reply; `at` is the number of messages that it answered."""
    said = clean(spoken(text or ""))
    if mode == "json":
        return {"role": "assistant", "content": _action_text(said)}
    if not calls:
        return {"role": "assistant", "content": said if said.strip() else "(empty)"}
    requests: list[JsonValue] = [
        {
            "id": call_id(at, number),
            "type": "function",
            "function": {"name": tool_name(call.name), "arguments": _arguments_text(call.arguments)},
        }
        for number, call in enumerate(calls[:MAX_CALLS])
    ]
    return {"role": "assistant", "content": said if said.strip() else None, "tool_calls": requests}


def whole(
    previous: Sequence[Message], reply: Message | None, keeps: int, new: Sequence[Message]
) -> tuple[Message, ...]:
    """Put a request together: the first `keeps` messages of the last answered one and its reply, then the new ones."""
    before = [*previous, *([reply] if reply is not None else [])]
    if keeps > len(before):
        raise ValueError(f"{keeps} messages are to be kept of {len(before)}")
    return (*before[:keeps], *new)


def arguments_of(text: str) -> dict[str, JsonValue]:
    """Read the arguments of a call: an object, also one encoded twice; nothing at all is none. Raises `ValueError`."""
    if not text.strip():
        return {}
    value = loads(text)
    if isinstance(value, str):
        value = loads(value)
    if not isinstance(value, dict):
        raise ValueError("a JSON object is wanted")  # noqa: TRY004 - told to the model like any other fault
    return value


def tool_name(name: str) -> str:
    """Return a tool's name in the characters that endpoints take."""
    return _NOT_IN_NAMES.sub("_", name)[:64] or "unnamed"


def clean(text: str) -> str:
    """Replace half characters (lone surrogates), which no endpoint takes."""
    return text.encode(errors="replace").decode()


def as_data(text: str) -> str:
    """Return text from outside, control tokens of chat templates taken apart and control characters replaced."""
    return _CONTROL_TOKEN.sub("< ", _CONTROL_CHARACTER.sub("\ufffd", clean(text)))


def shortened(reply: Message) -> Message:
    """Return what may stand for an assistant's message once room is short: long texts and arguments replaced."""
    content = reply.get("content")
    short: Message = {**reply, "content": _short(content) if isinstance(content, str) else content}
    if isinstance(content, str) and content.startswith("{"):
        with suppress(ValueError):  # a JSON action stays an action
            short["content"] = dumps(_short_values(loads(content)))
    if "tool_calls" in reply:
        short["tool_calls"] = [_short_call(call) for call in cast("list[Message]", reply["tool_calls"])]
    return short


def _arguments_text(text: str) -> str:
    """Keep the model's own text where it is an object: caches of the prompt's prefix then go on matching."""
    try:
        arguments = arguments_of(text)
    except ValueError:
        return "{}"
    try:
        return text if isinstance(json.loads(text), dict) else dumps(arguments)
    except ValueError:
        return dumps(arguments)


def _action_text(said: str) -> str:
    """Keep only the object: what a model makes up after its action would teach it to go on so."""
    said = said.strip()
    try:
        action = read_object(said)
    except ValueError:
        return cut_middle(said, _JUNK) or "(empty)"
    try:
        return said if loads(said) == action else dumps(action)
    except ValueError:
        return dumps(action)


def _short_call(call: Message) -> Message:
    function = cast("Message", call["function"])
    arguments = _short_values(loads(cast("str", function["arguments"])))
    return {**call, "function": {**function, "arguments": dumps(arguments)}}


def _short_values(value: JsonValue) -> JsonValue:
    if isinstance(value, dict):
        return {key: _short_values(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_short_values(item) for item in value]
    return _short(value) if isinstance(value, str) else value


def _short(text: str) -> str:
    if len(text) <= _LONG:
        return text
    return f"{text[: _LONG // 2]} [... {len(text):,} characters, left out here to save room]"
