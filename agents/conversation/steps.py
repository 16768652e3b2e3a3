"""What a dialogue wants done next: one of `Ask`, `Act`, `Finished`, `Broken`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from pydantic import JsonValue

from agents.conversation.calls import Call
from agents.model import ToolSchema
from bus.events import Message

BrokenKind = Literal["answer", "calls", "cut", "empty", "no_progress", "refused", "too_long", "turns"]


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask the model. `keeps` counts the leading messages that are as in the last answered ask with its reply."""

    messages: tuple[Message, ...]
    tools: tuple[ToolSchema, ...]
    answer_schema: Mapping[str, JsonValue] | None
    keeps: int
    new: tuple[Message, ...]
    """`messages` after the first `keeps`."""


@dataclass(frozen=True, slots=True)
class Act:
    """Run these calls: all at once where they are more than one, for then they only read."""

    calls: tuple[Call, ...]


@dataclass(frozen=True, slots=True)
class Finished:
    """The answer: its text, and what `Answer.validate` made of it."""

    text: str
    data: object = None


@dataclass(frozen=True, slots=True)
class Broken:
    """It cannot go on."""

    reason: str
    kind: BrokenKind


Step = Ask | Act | Finished | Broken
