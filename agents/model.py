"""Contract: messages in, reply and token usage out. One call of `ask` is one try.

What follows a failed try (wait, ask again, give up, pause the run) is the caller's, by `agents/tries.py`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import orjson
from pydantic import JsonValue

from agents.errors import AgentsError
from bus.events import CallRequest, Message, Usage

TryKind = Literal[
    "rate_limited",  # 429
    "server",  # 5xx, refused or reset before an answer
    "lost",  # timeout, also a gateway's, reset midway, cut, slow drip: it may have been paid
    "nonsense",  # HTML, truncated JSON, wrong shape, empty choices
    "parameter",  # 400 that names a parameter: given up and remembered, ask again at once
    "too_long",  # 400: the messages do not fit the context window
    "refused",  # other 4xx: the server's words
    "unavailable",  # 401, 403, 404 model: a person must act
    "too_big",  # an answer over the size cap, a redirect to another host
]


@dataclass(frozen=True)
class ToolSchema:
    """A tool as a model sees it; `parameters` is a JSON schema of an object."""

    name: str
    description: str
    parameters: Mapping[str, JsonValue]

    @cached_property  # asked for in every conversation, for the room it takes and for its reservation
    def size(self) -> int:
        """Bytes of all of it as JSON."""
        return len(orjson.dumps([self.name, self.description, self.parameters]))


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """One request. `answer_schema`: the JSON schema the answer's text must fit."""

    model: str
    """Name at the provider, without `provider:`."""
    messages: Sequence[Message]
    max_tokens: int
    tools: Sequence[ToolSchema] = ()
    temperature: float | None = None
    answer_schema: Mapping[str, JsonValue] | None = None
    timeout_s: float = 120.0
    role: str = ""
    """Who asks; only scripted and recorded models look at it."""


@dataclass(frozen=True, slots=True)
class ModelReply:
    """A whole answer. `calls` have ids that are unique within the reply."""

    text: str | None
    usage: Usage
    calls: tuple[CallRequest, ...] = ()
    finish: Literal["stop", "length", "tool_calls", "content_filter"] = "stop"
    refusal: str | None = None


class TryFailed(AgentsError):
    """One try came to nothing.

    `unproven`: something was sent and no whole answer came back, so it may have been paid and counts in full.
    `retry_after_s`: how long the endpoint asks to wait, None where it does not say. `final`: another try would fail the
    same way, whatever its kind.
    """

    def __init__(
        self,
        kind: TryKind,
        message: str,
        *,
        unproven: bool = False,
        retry_after_s: float | None = None,
        status: int | None = None,
        remedy: str = "",
        final: bool = False,
    ) -> None:
        super().__init__(message)
        self.kind: TryKind = kind
        self.unproven = unproven
        self.retry_after_s = retry_after_s
        self.status = status
        self.remedy = remedy
        self.final = final


@dataclass(slots=True)
class EndpointHealth:
    """What the calls to one endpoint have met lately; shared by all that use it in this process."""

    answered: int = 0
    """Whole answers so far; a call that fails while this stands still has met a dead endpoint."""
    blocked_until: float = 0.0
    """Monotonic time before which no call goes out (429)."""
    notes: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ModelPlace:
    """Where and how a model is reached; every model class is made with `(name, place)`, in a running event loop."""

    url: str | None = None
    """Base URL of a Chat Completions endpoint, such as `https://api.openai.com/v1`."""
    key: str | None = field(default=None, repr=False)
    key_name: str | None = None
    """The environment variable that the key came from, or should come from."""
    calls: int = 64
    """Model calls in flight at once to one endpoint."""
    folder: Path = Path()
    """Relative files are found from here."""
    cache: Path | None = None
    """Where downloaded weights are kept; None: the user's cache."""
    announce: Callable[[str], None] = lambda _: None
    """Takes lines for people, such as the progress of a download."""


@runtime_checkable
class Prepared(Protocol):
    """A model that takes long to get ready, such as one that is downloaded and loaded."""

    async def prepare(self) -> None:
        """Get ready now. Raises `ModelUnavailable`."""
        ...


class Model(Protocol):
    """Something that answers."""

    health: EndpointHealth

    async def ask(self, request: ModelRequest) -> ModelReply:
        """Make one try. Raises `TryFailed`; cancellation passes through."""
        ...

    async def close(self) -> None:
        """Let go of connections and child processes."""
        ...
