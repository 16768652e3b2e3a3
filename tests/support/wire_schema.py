"""`docs/wire.schema.json`: every message that goes over a broker, made from the classes that the code reads with.

`$defs` has a schema of each message by the name of its class, and for each kind of topic `on.KIND`: what may come.
"""

import ast
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from jsonschema import Draft202012Validator
from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import models_json_schema

import agents.briefing
import bus.cards
import bus.events
import bus.notes
import bus.setup
import swarm.submissions.submission
from agents.briefing import Briefing
from bus import topics
from bus.events import EVENTS, Effect, Fact, Request
from bus.notes import ON, Attachments, Shape, kind_of
from bus.wire import NOTE_VERSION
from swarm.submissions.submission import Submission
from tests.support.class_source import class_nodes, fields_of

Schema = dict[str, Any]

MODULES = (bus.events, bus.setup, bus.notes, bus.cards, agents.briefing, swarm.submissions.submission)
TEXT = {"type": "string", "minLength": 1}
ATTRIBUTES: Mapping[str, Schema] = {
    "specversion": {"const": "1.0"},
    "id": TEXT | {"description": "Unique; that of a request is its lease."},
    "source": TEXT | {"description": "`/swarm/agent/USER/INSTANCE`, `/swarm/hub/ID`."},
    "type": TEXT,
    "subject": TEXT | {"description": "The id of the request that it belongs to."},
    "time": TEXT | {"description": "RFC 3339, UTC; for people only."},
    "datacontenttype": {"const": "application/json"},
    "sequence": {
        "type": "string",
        "pattern": "^[1-9][0-9]{0,17}$",
        "description": "Of what an agent says: its place under the lease, from 1. In a log: its position.",
    },
    "correlationid": TEXT | {"description": "The run."},
    "causationid": TEXT | {"description": "Of what an agent says: the lease."},
    "traceparent": TEXT,
    "elapsedms": {"type": "integer", "minimum": 0, "description": "Running time of the run."},
    "label": TEXT,
}
OF_EVENTS = ("specversion", "id", "source", "type", "time", "correlationid", "data")
OF_NOTES = ("specversion", "id", "source", "type", "data")
OF_AGENTS = ("subject", "causationid", "sequence")
OF_LOGS = ("sequence",)
JSON_NAMES = {"start": "from", "kind_of": "kind"}
"""Of notes: names that are no names in Python, or taken there."""
RIGHTS: Mapping[topics.Kind, str] = {"agent_files": "lease", "hub_files": "lease", "client_files": "run"}


def ref(name: str) -> Schema:
    return {"$ref": f"#/$defs/{name}"}


def message_name(shape: type[BaseModel]) -> str:
    return f"message.{shape.__name__}"


def schema() -> Schema:
    """Return the whole schema."""
    shapes = {shape.__name__: shape for kind in ON.values() for shape in kind} | {"Attachments": Attachments}
    classes = [*EVENTS.values(), Submission, *(one for one in shapes.values() if not issubclass(one, Fact))]
    _, made = models_json_schema([(one, "validation") for one in classes], by_alias=True)
    defs: dict[str, Schema] = made["$defs"]
    assert {one.__name__ for one in classes} <= set(defs), "two classes have one name"
    defs |= _briefing()
    defs["Attachments"]["properties"]["briefing"] = ref("Briefing")
    defs["Submit"]["properties"]["submission"] = ref("Submission")
    defs["RunLines"]["properties"]["lines"]["items"] = ref("recorded")
    _describe(defs)
    for one in shapes.values():
        if issubclass(one, Shape):
            _absent_not_null(defs[one.__name__])
    messages = {message_name(one): _message(one) for one in shapes.values() if one is not Attachments}
    messages["event"] = {"type": "object", "required": [*OF_EVENTS], "properties": dict(ATTRIBUTES)}
    of_notes = {name: ATTRIBUTES[name] for name in ("specversion", "id", "source", "type", "datacontenttype")}
    messages["note"] = {"type": "object", "required": [*OF_NOTES], "properties": of_notes}
    messages["effect"] = {"anyOf": [ref(message_name(one)) for one in Effect.__args__]}
    messages["recorded"] = {
        "anyOf": [ref(message_name(one)) for one in EVENTS.values()],
        "required": [*OF_LOGS],
    }
    topics_ = {f"on.{kind}": _topic(kind) for kind in ON}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Messages of eventswarm over MQTT",
        "description": "Made from the code by `make docs`. On a topic of a kind comes `$defs/on.KIND`: docs/wire.md.",
        "anyOf": [ref(name) for name in topics_],
        "$defs": topics_ | messages | dict(sorted(_without_titles(defs).items())),
    }


def schema_text() -> str:
    return json.dumps(schema(), indent=1, ensure_ascii=False) + "\n"


@dataclass
class Checker:
    """Holds payloads against the schema, and counts what came of which kind."""

    whole: Schema = field(default_factory=schema)
    seen: Counter[tuple[topics.Kind, str]] = field(default_factory=Counter)
    """(kind of topic, type of the message) -> how often."""
    _validators: dict[tuple[topics.Kind, str], Draft202012Validator] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for kind, shapes in ON.items():
            choices = self.whole["$defs"][f"on.{kind}"]["anyOf"]
            for shape, choice in zip(shapes, choices, strict=True):
                one = choice | {"$defs": self.whole["$defs"]}
                self._validators[kind, type_of(shape)] = Draft202012Validator(one)

    def check(self, topic: str, payload: bytes) -> None:
        """Raise `AssertionError` or `jsonschema.ValidationError` for what should not come on this topic."""
        if not payload:
            assert topic.endswith("/card"), f"{topic} was cleared"
            return
        kind, message = topics.parse(topic).kind, json.loads(payload)
        validator = self._validators.get((kind, message["type"]))
        assert validator is not None, f"{message['type']} on {topic} stands in no schema"
        validator.validate(message)
        self.seen[kind, message["type"]] += 1


def type_of(shape: type[BaseModel]) -> str:
    """Return the CloudEvents type of the message that holds an event or a note."""
    if issubclass(shape, Fact):
        return f"swarm.{shape.__name__}.v{shape.version}"
    return f"swarm.note.{kind_of(shape)}.v{NOTE_VERSION}"


def _message(shape: type[BaseModel]) -> Schema:
    """Return the schema of the CloudEvent that holds an event or a note."""
    around = "event" if issubclass(shape, Fact) else "note"
    return ref(around) | {"properties": {"type": {"const": type_of(shape)}, "data": ref(shape.__name__)}}


def _topic(kind: topics.Kind) -> Schema:
    """Return the schema of what may come on the topics of a kind."""
    choices = [_on(kind, shape) for shape in ON[kind]]
    return {"description": f"What may come on `{topic_of(kind)}`.", "anyOf": choices}


def _on(kind: topics.Kind, shape: type[BaseModel]) -> Schema:
    message = ref(message_name(shape))
    if shape in Request.__args__ and kind == "agent_request":
        return _request(shape)
    if issubclass(shape, Fact):
        return message | {"required": [*(OF_AGENTS if kind == "hub_reply" else OF_LOGS)]}
    if kind in RIGHTS:
        return message | {"properties": {"data": {"required": [RIGHTS[kind]]}}}
    return message


def _request(shape: type[BaseModel]) -> Schema:
    """Return the schema of a request as it is sent: its data has attachments beside the fields of the event."""
    told = _message(shape)
    data = shape.model_json_schema(ref_template="#/$defs/{model}")
    data.pop("$defs", None)
    data["properties"] = data["properties"] | {"attachments": ref("Attachments")}
    data["required"] = [*data["required"], "attachments"]
    _describe({shape.__name__: data})
    told["properties"] = told["properties"] | {"data": _without_titles(data)}
    return told | {"required": ["subject", "sequence"]}


def _briefing() -> dict[str, Schema]:
    """Return the schemas of a briefing and of its values; unlike in events, keys that nobody knows may be there."""
    made = TypeAdapter(Briefing).json_schema(ref_template="#/$defs/Briefing.{model}")
    defs = {f"Briefing.{name}": one for name, one in made.pop("$defs").items()}
    made["properties"]["journal"] = {"type": "array", "items": ref("effect")}
    found = {"Briefing": made, **defs}
    for unused in ("Envelope", "Fact"):
        found.pop(f"Briefing.{unused}", None)
    for one in found.values():
        one.pop("additionalProperties", None)
    return found


def _describe(defs: Mapping[str, Schema]) -> None:
    """Say what fields mean, as the code says it."""
    nodes = {name: node for module in MODULES for name, node in class_nodes(module).items()}
    for name, one in defs.items():
        fields = _told(name.rpartition(".")[2], nodes)
        for key, value in one.get("properties", {}).items():
            if key in fields:
                value["description"] = fields[key]


def _told(name: str, nodes: Mapping[str, ast.ClassDef]) -> dict[str, str]:
    """Return what the fields of a class mean, those of its bases included, by the names that they have in JSON."""
    node = nodes.get(name)
    if node is None:
        return {}
    inherited = [_told(base.id, nodes) for base in node.bases if isinstance(base, ast.Name)]
    names = JSON_NAMES if name in class_nodes(bus.notes) else {}
    own = {names.get(field.name, field.name): field.told for field in fields_of(node) if field.told}
    return {key: told for fields in inherited for key, told in fields.items()} | own


def _absent_not_null(shape: Schema) -> None:
    """Make fields that may be left out ones that are never null: that is how they are sent, and read."""
    for value in shape["properties"].values():
        if value.get("default", "") is None:
            del value["default"]
            (kept,) = [one for one in value.pop("anyOf") if one != {"type": "null"}]
            value.update(kept)


def _without_titles(value: Any) -> Any:
    """Drop the titles that pydantic gives; a property of that name stays."""
    if isinstance(value, dict):
        return {
            key: _without_titles(one) for key, one in value.items() if not (key == "title" and isinstance(one, str))
        }
    return [_without_titles(one) for one in value] if isinstance(value, list) else value


def topic_of(kind: topics.Kind) -> str:
    """Return a topic of a kind with words for its names, as `bus/topics.py` makes it."""
    agent, client = "USER/INSTANCE", "USER/INSTANCE"
    made: dict[topics.Kind, str] = {
        "agent_card": topics.agent_card(agent),
        "agent_request": topics.agent_request(agent, "RUN"),
        "agent_control": topics.agent_control(agent),
        "agent_files": topics.agent_files(agent),
        "hub_card": topics.hub_card("HUB"),
        "hub_reply": topics.hub_reply("HUB", agent, "RUN"),
        "hub_files": topics.hub_files("HUB", agent),
        "submission": topics.submission(client),
        "client_answer": topics.client_answer(client),
        "client_files": topics.client_files(client),
        "run_event": topics.run_event("RUN", "EVENT"),
        "run_outcome": topics.run_outcome("RUN"),
    }
    return made[kind]
