"""What a role is told, over the wire and back: nothing is lost, nothing unsound comes in."""

from dataclasses import replace

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import from_json

from agents.briefing import Briefing, Deed, Finding, Offer
from bus.errors import BadEnvelope, TooNew
from bus.setup import FileRef, Permissions, RoleSetup
from tests.support.events import JSON, NAMES, TEXTS, envelopes, record, values

FINDINGS = st.builds(Finding, TEXTS, TEXTS, TEXTS, TEXTS, st.lists(TEXTS).map(tuple), TEXTS)
FILES = st.dictionaries(NAMES, values(FileRef), max_size=2)
BRIEFINGS = st.builds(
    Briefing,
    goal=TEXTS,
    role=values(RoleSetup),
    permissions=values(Permissions),
    journal=st.lists(envelopes(), max_size=3).map(tuple),
    forked=st.booleans(),
    outward=st.dictionaries(NAMES, st.builds(Deed, TEXTS, st.dictionaries(TEXTS, JSON, max_size=2), TEXTS), max_size=2),
    settled=st.dictionaries(NAMES, TEXTS, max_size=2),
    private=st.booleans(),
    base=FILES,
    start=FILES,
    left=FILES,
    findings=st.lists(FINDINGS, max_size=2).map(tuple),
    offers=st.lists(st.builds(Offer, TEXTS, TEXTS, st.lists(TEXTS).map(tuple)), max_size=2).map(tuple),
    most_subtasks=st.integers(0, 10_000),
    run=TEXTS,
    env=st.dictionaries(NAMES, TEXTS, max_size=2),
)
PLAIN = Briefing("the goal", RoleSetup(model="scripted:x"))


def as_read(briefing: Briefing) -> dict:
    """Return the JSON object that a briefing becomes on its way."""
    return orjson.loads(orjson.dumps(briefing.on_wire()))


@given(BRIEFINGS)
def test_reading_undoes_writing(briefing):
    assert Briefing.read(from_json(orjson.dumps(briefing.on_wire()))) == briefing


def test_the_wires_own_reader_will_do():
    deed = Deed("post", {"text": "hello", "n": [1, 2.5, None]}, "sent")
    briefing = replace(PLAIN, journal=(record(1), record(2)), outward={"digest": deed}, env={"INPUT_A": "ä"})
    assert Briefing.read(as_read(briefing)) == briefing


def test_an_integer_that_a_model_made_up_does_not_keep_a_request_from_being_sent():
    briefing = replace(PLAIN, outward={"digest": Deed("pay", {"cents": 10**30}, "paid")})
    assert b"1000000000000000000000000000000" in orjson.dumps(briefing.on_wire())


def test_the_journal_stands_in_it_as_cloudevents():
    journal = as_read(replace(PLAIN, journal=(record(7),)))["journal"]
    assert [(one["specversion"], one["type"], one["sequence"]) for one in journal] == [
        ("1.0", "swarm.NoProgressNoticed.v1", "7")
    ]


def test_what_is_a_briefing_already_is_not_copied():
    assert Briefing.read(PLAIN) is PLAIN


def test_keys_of_a_newer_hub_are_passed_over_wherever_they_stand():
    wire = as_read(
        replace(PLAIN, offers=(Offer("tester", "tests"),), start={"a": FileRef(path="a", sha256="0", bytes=1)})
    )
    wire["hurry"] = True
    wire["role"]["mood"] = {"good": True}
    wire["offers"][0]["price"] = 3
    wire["start"]["a"]["owner"] = "me"
    assert Briefing.read(wire) == replace(
        PLAIN, offers=(Offer("tester", "tests"),), start={"a": FileRef(path="a", sha256="0", bytes=1)}
    )


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"goal": 3}, "goal: Input should be a valid string"),
        ({"goal": None}, "goal:"),
        ({"role": {}}, "role.model: Field required"),
        ({"role": {"model": "x", "agents": "8"}}, "role.agents: Input should be a valid integer"),
        ({"permissions": {"fetch": "everything"}}, "permissions.fetch"),
        ({"journal": {}}, "journal: a list is wanted, this is dict"),
        ({"journal": [3]}, "not an event"),
        ({"journal": [{"type": "swarm.GoalAccepted.v1"}]}, "bad swarm.GoalAccepted.v1"),
        ({"forked": "yes"}, "forked: Input should be a valid boolean"),
        ({"env": {"A": 1}}, "env.A: Input should be a valid string"),
        ({"goal": "half a pair \ud800"}, "bad briefing"),
    ],
)
def test_what_is_wrong_is_named(changes, told):
    with pytest.raises(BadEnvelope) as caught:
        Briefing.read(as_read(PLAIN) | changes)
    assert told in str(caught.value)


@pytest.mark.parametrize("value", [None, [], "text", 3, b"{}"])
def test_what_is_no_object_is_no_briefing(value):
    with pytest.raises(BadEnvelope, match="a JSON object is wanted"):
        Briefing.read(value)


def test_an_event_of_a_newer_version_says_so():
    with pytest.raises(TooNew, match="newer version"):
        Briefing.read(as_read(PLAIN) | {"journal": [{"type": "swarm.AgentDreamed.v1"}]})


def test_what_is_nested_too_deeply_is_refused_and_not_a_crash():
    deep: list = []
    for _ in range(5_000):
        deep = [deep]
    with pytest.raises(BadEnvelope, match="bad briefing"):
        Briefing.read(as_read(PLAIN) | {"new": deep})


@given(st.dictionaries(st.sampled_from([*PLAIN.on_wire(), "other"]), JSON))
def test_whatever_comes_is_read_or_refused(changes):
    try:
        assert isinstance(Briefing.read(as_read(PLAIN) | changes), Briefing)
    except (BadEnvelope, TooNew) as refused:
        assert str(refused)  # noqa: PT017 - either is right
