"""What is made from the code in docs/wire.md: it stands between `<!-- made: NAME -->` and `<!-- end -->`."""

import re
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import NamedTuple

from pydantic import BaseModel

import agents.briefing
import bus.cards
from bus import notes, topics
from bus.events import EVENTS, FROM_AGENTS, Fact
from bus.notes import ON, Claim, kind_of
from tests.support.class_source import class_nodes, doc_of
from tests.support.wire_schema import JSON_NAMES, Schema, schema, topic_of

MADE = re.compile(r"(<!-- made: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


class Way(NamedTuple):
    """Who says something on a topic, and how; `retained`: the last word stays with the broker."""

    by: str
    to: str
    qos: int = 1
    retained: bool = False


WAYS: Mapping[topics.Kind, Way] = {
    "agent_card": Way("the agent; its last will clears it", "hubs", retained=True),
    "agent_request": Way("a hub", "that agent"),
    "agent_control": Way("hubs", "that agent"),
    "agent_files": Way("hubs", "that agent"),
    "hub_card": Way("the hub; its last will clears it", "all", retained=True),
    "hub_reply": Way("that agent", "that hub"),
    "hub_files": Way("that agent", "that hub"),
    "submission": Way("that client", "hubs"),
    "client_answer": Way("hubs", "that client"),
    "client_files": Way("hubs", "that client"),
    "run_event": Way("the hub of the run", "whoever watches", qos=0),
    "run_outcome": Way("the hub of the run", "whoever watches", retained=True),
}

NOTES: Mapping[str, tuple[type[BaseModel], ...]] = {
    "An agent, on the topic for replies": tuple(
        one for one in ON["hub_reply"] if not issubclass(one, Fact) and one is not Claim
    ),
    "A hub, on the agent's control topic": ON["agent_control"],
    "Files, asked for and brought": ON["hub_files"],
    "Files, answered": ON["agent_files"],
    "Instead of a payload that is too large": (Claim,),
    "A client, on its submit topic": tuple(one for one in ON["submission"] if one not in {*ON["hub_files"], Claim}),
    "A hub, on the client's answer topic": tuple(one for one in ON["client_answer"] if one is not Claim),
}


def topics_table() -> str:
    rows = ["| topic | from | to | QoS | carries |", "| --- | --- | --- | --- | --- |"]
    for kind, way in WAYS.items():
        retained = ", retained" if way.retained else ""
        carries = ", ".join(_carried(ON[kind]))
        rows.append(f"| `{topic_of(kind)}` | {way.by} | {way.to} | {way.qos}{retained} | {carries} |")
    return "\n".join(rows) + "\n"


def _carried(shapes: tuple[type[BaseModel], ...]) -> list[str]:
    events = [one for one in shapes if issubclass(one, Fact)]
    kinds = [f"`{kind_of(one)}`" for one in shapes if not issubclass(one, Fact)]
    if set(events) == set(EVENTS.values()):
        return ["events", *kinds]
    if set(events) == set(FROM_AGENTS):
        return [*kinds[:-1], "events of agents", *kinds[-1:]]
    return [*(f"`{one.__name__}`" for one in events), *kinds]


def attachments_table() -> str:
    return _table("Attachments")


def briefing_tables() -> str:
    return f"{_table('Briefing')}\n{_told(agents.briefing, 'Finding')}"


def cards_tables() -> str:
    return "\n".join(_told(bus.cards, name) for name in ("AgentCard", "RoleCard", "HubCard"))


def notes_tables() -> str:
    nodes, parts = class_nodes(notes), []
    for heading, shapes in NOTES.items():
        rows = [f"{heading}:\n\n| note | fields | says |", "| --- | --- | --- |"]
        for shape in shapes:
            told = _line(doc_of(nodes[shape.__name__]))
            rows.append(f"| `{kind_of(shape)}` | {_fields(shape)} | {told} |")
        parts.append("\n".join(rows) + "\n")
    return "\n".join(parts)


def _fields(shape: type[BaseModel]) -> str:
    """Return the names of a note's fields; those that may be left out with a `?`."""
    return ", ".join(
        f"`{JSON_NAMES.get(name, name)}{'' if one.is_required() else '?'}`" for name, one in shape.model_fields.items()
    )


def _told(module: ModuleType, name: str) -> str:
    return f"`{name}`: {_line(doc_of(class_nodes(module)[name]))}\n\n{_table(name)}"


def _table(name: str) -> str:
    """Return the fields of an object as its schema has them."""
    defs = schema()["$defs"]
    one = defs.get(name) or defs[f"Briefing.{name}"]
    rows = ["| field | is | meaning |", "| --- | --- | --- |"]
    for key, value in one["properties"].items():
        optional = "; may be left out" if name.endswith("Card") and key not in one.get("required", ()) else ""
        rows.append(f"| `{key}` | {_kind(value)}{optional} | {value.get('description') or OTHERS[key]} |")
    return "\n".join(rows) + "\n"


def _kind(value: Schema) -> str:
    """Return in words what a schema lets through."""
    if "$ref" in value:
        name = value["$ref"].rpartition("/")[2].rpartition(".")[2]
        return NAMED.get(name, f"`{name}`")
    match value.get("type"):
        case "array":
            return f"list of {PLURAL.get(word := _kind(value['items']), word)}"
        case "object":
            more = value.get("additionalProperties")
            return f"object of {PLURAL.get(word := _kind(more), word)}" if isinstance(more, dict) and more else "object"
        case kind:
            return WORDS[kind]


WORDS = {"string": "text", "integer": "whole number", "number": "number", "boolean": "true or false"}
PLURAL = {"text": "texts", "whole number": "whole numbers"}
NAMED = {"effect": "effect events", "Briefing": "object, below", "RoleSetup": "object", "Permissions": "object"}
OTHERS: Mapping[str, str] = {
    "goal": "The run's goal; a role that works on subtasks is told its first 1,200 characters.",
    "role": "How the scenario sets the role up: model, tools, prompt and more. Of a finding: who did it.",
    "permissions": "Where the run may reach: `fetch` (`public`, `none` or hosts), `private_hosts`, `sandbox`.",
    "most_subtasks": "For a planner: how many it may plan.",
    "text": "What was said.",
    "feedback": "Why attempts were not accepted.",
}
"""What fields mean that say nothing of it in the code."""


def _line(text: str) -> str:
    return " ".join(text.split())


PARTS: Mapping[str, Callable[[], str]] = {
    "topics": topics_table,
    "cards": cards_tables,
    "attachments": attachments_table,
    "briefing": briefing_tables,
    "notes": notes_tables,
}


def with_parts(page: str) -> str:
    """Return a page with the parts that are made put in anew."""
    return MADE.sub(lambda found: f"{found[1]}\n{PARTS[found[2]]()}\n{found[3]}", page)
