"""What an agent and a hub say of themselves: retained notes, read strictly, since anybody may have written them."""

from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bus.codec import LARGEST_EXACT
from bus.errors import BadEnvelope
from bus.pubsub import Note

PROTOCOL = 1
"""The version of the wire format that this version speaks."""

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
Line = Annotated[str, Field(max_length=400)]


class _Card(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class RoleCard(_Card):
    """One role that an agent takes requests for."""

    name: Name
    """What plans call it by."""
    handles: Line = "SubtaskAssigned"
    """The request event that it answers."""
    answers: Line = ""
    """The CloudEvents type of its answers, version included: their schema."""
    about: Line = ""
    """What it is for, in one line: planners choose by it."""
    tools: tuple[Name, ...] = ()
    """What it works with."""
    version: Line = ""
    """What stands for its code and prompt: an attempt begun under another version may ask otherwise."""


class AgentCard(_Card):
    """Who an agent is: what it takes, how much at once."""

    roles: tuple[RoleCard, ...] = Field(max_length=64)
    """What it takes requests for."""
    slots: int = Field(ge=0, le=100_000)
    """Requests that it works on at once, over all its roles; 0 while it takes no more."""
    nonce: Line = ""
    """Drawn anew by each process: another one has nothing of what its forerunner held."""
    said: int = Field(default=0, ge=0, le=LARGEST_EXACT)
    """How often it was said: one that is said again, to say that there is room, is then another word, and handed on."""
    host: Line = ""
    """Where it runs, for people."""
    protocols: tuple[int, ...] = (PROTOCOL,)
    """Versions of the wire format that it speaks."""


class HubCard(_Card):
    """Who a hub is."""

    nonce: Line = ""
    """Drawn anew by each process."""
    software: Line = ""
    """Its version."""
    time: Line = ""
    """When it was said, RFC 3339: for `swarm doctor bus`, which compares clocks."""
    protocols: tuple[int, ...] = (PROTOCOL,)
    """Versions of the wire format that it speaks."""


C = TypeVar("C", bound=_Card)


def card(value: AgentCard | HubCard) -> Note:
    """Return a card as the note that is said."""
    return Note("card", value.model_dump(mode="json"))


def read_agent_card(note: Note) -> AgentCard:
    """Return the card that a note holds. Raises `BadEnvelope` with what is wrong."""
    return _read(note, AgentCard)


def read_hub_card(note: Note) -> HubCard:
    """Return the card that a note holds. Raises `BadEnvelope` with what is wrong."""
    return _read(note, HubCard)


def _read(note: Note, kind: type[C]) -> C:
    try:
        found = kind.model_validate(dict(note.fields))
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        raise BadEnvelope(f"bad card: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    if note.kind != "card":
        raise BadEnvelope(f"a card is wanted, this is a note {note.kind[:40]!r}")
    return found
