"""A model that answers from a file: for tests, examples and recordings, without network or cost.

The file is YAML, a list of entries `{role?, when?, reply | json | call | fail, usage?}`:

    - {role: planner, json: {subtasks: [...]}}
    - {role: coder, when: "prime numbers", call: {tool: write_file, arguments: {path: a.py, content: "…"}}}
    - {fail: 429}
    - {reply: done, usage: {input: 100, output: 5}}

The first unused entry answers whose `role` is the asking one and whose `when`, a regular expression, is found in the
conversation (system prompt apart); an entry is used once. `call` may be a list. `fail` is an HTTP status or a kind of
failed try.
"""

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, Self, get_args

import pydantic
from pydantic import BaseModel, ConfigDict, JsonValue

from agents.completions.shapes import failure, quote
from agents.errors import ModelUnavailable
from agents.model import EndpointHealth, ModelPlace, ModelReply, ModelRequest, TryFailed, TryKind
from bus.events import CallRequest, Message, Usage

_MOST_BYTES = 1024 * 1024


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Call(_Part):
    tool: str
    arguments: dict[str, JsonValue] = {}


class _Figures(_Part):
    input: int = pydantic.Field(ge=0)
    output: int = pydantic.Field(ge=0)
    cached: int = pydantic.Field(default=0, ge=0)


class Entry(_Part):
    """One answer, and which requests it is for."""

    role: str | None = None
    when: re.Pattern[str] | None = None
    reply: str | None = None
    data: JsonValue = pydantic.Field(default=None, alias="json")
    call: _Call | tuple[_Call, ...] | None = None
    fail: int | TryKind | None = None
    usage: _Figures | None = None
    finish: Literal["stop", "length", "content_filter"] = "stop"

    @pydantic.model_validator(mode="after")
    def _says_one_thing(self) -> Self:
        said = self.model_fields_set & {"reply", "data", "call", "fail"}
        if len(said) != 1:
            raise ValueError("an entry has exactly one of: reply, json, call, fail")
        return self

    def answers(self, role: str, conversation: str) -> bool:
        """Whether this entry is for a request."""
        return self.role in {None, role} and (self.when is None or self.when.search(conversation) is not None)


class Scripted:
    """Answers from the file `name`, found from `place.folder`; one object for all roles of a run."""

    def __init__(self, name: str, place: ModelPlace) -> None:
        self.health = EndpointHealth()
        self._path = place.folder / name
        self._entries = _load(self._path)
        self._used: set[int] = set()

    async def ask(self, request: ModelRequest) -> ModelReply:
        """Answer with the next entry that fits. Raises `TryFailed`."""
        conversation = "\n".join(text for message in request.messages if (text := text_of(message)))
        for number, entry in enumerate(self._entries):
            if number not in self._used and entry.answers(request.role, conversation):
                self._used.add(number)
                reply = reply_of(entry, number, conversation)
                self.health.answered += 1
                return reply
        unused = [entry for number, entry in enumerate(self._entries) if number not in self._used]
        for_role = sum(entry.role in {None, request.role} for entry in unused)
        raise TryFailed(
            "refused",
            f"{self._path} has no entry for this request of role {request.role!r}: {len(unused)} of "
            f"{len(self._entries)} entries unused, {for_role} of them for this role. It ends with: "
            f"{quote(conversation[-1000:], 1000)!r}",
            remedy="Add an entry, or mend its `role` or `when`.",
        )

    async def close(self) -> None:
        """Hold nothing, close nothing."""


def text_of(message: Message) -> str | None:
    """Return what a message says, None for a system prompt."""
    if message.get("role") == "system":
        return None
    content = message.get("content")
    return content if isinstance(content, str) else json.dumps(content, ensure_ascii=False) if content else None


def reply_of(entry: Entry, number: int, conversation: str) -> ModelReply:
    """Return the reply of an entry. Raises `TryFailed` where it is one."""
    if isinstance(entry.fail, int):
        body = json.dumps({"error": {"message": f"as entry {number + 1} wants"}}).encode()
        raise failure(entry.fail, {}, body, datetime.now(UTC))
    if entry.fail:
        unproven = entry.fail in {"lost", "nonsense"}
        raise TryFailed(entry.fail, f"{entry.fail}, as entry {number + 1} wants", unproven=unproven)
    calls = entry.call if isinstance(entry.call, tuple) else (entry.call,) if entry.call else ()
    made = tuple(
        CallRequest(id=f"call_{number + 1}_{n}", name=call.tool, arguments=json.dumps(call.arguments))
        for n, call in enumerate(calls, 1)
    )
    text = json.dumps(entry.data, ensure_ascii=False) if "data" in entry.model_fields_set else entry.reply
    written = len(text or "") + sum(len(call.arguments) + len(call.name) for call in made)
    usage = (
        Usage(**entry.usage.model_dump())
        if entry.usage
        else Usage(input=len(conversation) // 4 + 1, output=written // 4 + 1, estimated=True)
    )
    return ModelReply(text, usage, made, "tool_calls" if made else entry.finish)


def _load(path: Path) -> tuple[Entry, ...]:
    """Read and check a file of answers. Raises `ModelUnavailable` with file, entry and fault."""
    from ruamel.yaml import YAML  # noqa: PLC0415  # only a scripted run needs it here
    from ruamel.yaml.error import YAMLError  # noqa: PLC0415

    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ModelUnavailable(f"{path} is larger than 1 MiB.", "Keep scripted answers small.")
        found = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ModelUnavailable(f"{path} cannot be read: {error}.", "Name a file of scripted answers.") from error
    except YAMLError as error:
        raise ModelUnavailable(f"{path} is no YAML: {error}") from error
    if not isinstance(found, list):
        raise ModelUnavailable(f"{path} holds no list of entries.", "Begin each entry with `- `.")
    entries = []
    for number, item in enumerate(found, 1):
        try:
            entries.append(Entry.model_validate(item))
        except pydantic.ValidationError as error:
            fault = fault_of(error)
            kinds = ", ".join(get_args(TryKind))
            hint = f"`fail` takes a status or one of: {kinds}." if fault.startswith("fail") else ""
            raise ModelUnavailable(f"{path}, entry {number}: {fault}", hint) from error
    return tuple(entries)


def fault_of(error: pydantic.ValidationError) -> str:
    """Return in words what is wrong with an entry."""
    fault = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in fault["loc"])
    return f"{where or 'the entry'}: {fault['msg']}."
