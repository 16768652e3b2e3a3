"""Names of topics, taken apart and put together; matching against a naive reading of the specification."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bus import topics
from bus.topics import Address, Routes

names = st.text("abcXYZ019_-", min_size=1, max_size=8)
agents = st.builds("{}/{}".format, names, names)
levels = st.sampled_from(["", "a", "b", "a b", "$SYS", "$", "ä"])
topic_texts = st.lists(levels, min_size=1, max_size=5).map("/".join).filter(bool)
filter_texts = (
    st.tuples(st.lists(levels | st.just("+"), max_size=5), st.booleans())
    .map(lambda parts: "/".join([*parts[0], *(["#"] if parts[1] else [])]))
    .filter(bool)
)


def oracle(wanted: list[str], found: list[str], *, first: bool = True) -> bool:
    """Section 4.7 of MQTT 5, sentence by sentence."""
    reserved = first and bool(found) and found[0].startswith("$")
    if not wanted:
        return not found
    if wanted[0] == "#":
        return not reserved
    if not found:
        return False
    if wanted[0] == "+":
        return not reserved and oracle(wanted[1:], found[1:], first=False)
    return wanted[0] == found[0] and oracle(wanted[1:], found[1:], first=False)


@given(filter_texts, topic_texts)
@example("sport/tennis/player1/#", "sport/tennis/player1")
@example("sport/+", "sport/")
@example("+/+", "/finance")
@example("#", "$SYS/uptime")
@example("+/monitor/Clients", "$SYS/monitor/Clients")
@example("$SYS/#", "$SYS/uptime")
def test_matching_is_what_the_specification_says(pattern: str, topic: str) -> None:
    topics.validate_filter(pattern)
    topics.validate_topic(topic)
    assert topics.matches(pattern, topic) == oracle(pattern.split("/"), topic.split("/"))


@given(filter_texts, filter_texts, topic_texts)
def test_what_filters_have_in_common_shows_in_each_topic(one: str, other: str, topic: str) -> None:
    if topics.matches(one, topic) and topics.matches(other, topic):
        assert topics.overlap(one, other)
    if topics.matches(other, topic) and topics.covers(one, other):
        assert topics.matches(one, topic)
    assert topics.overlap(one, other) == topics.overlap(other, one)
    assert topics.covers(one, one)


@pytest.mark.parametrize(
    ("one", "other", "covered", "common"),
    [
        ("a/+", "a/b", True, True),
        ("a/#", "a", True, True),
        ("a", "a/#", False, True),
        ("a/#", "a/+/c", True, True),
        ("a/+", "+/b", False, True),
        ("a/+", "b/+", False, False),
        ("a/b", "a/b/c", False, False),
        ("a/+", "a", False, False),
        ("+/#", "$SYS/x", False, False),
        ("$SYS/#", "$SYS/x", True, True),
    ],
)
def test_filters_are_compared_level_by_level(one: str, other: str, covered: bool, common: bool) -> None:  # noqa: FBT001
    assert topics.covers(one, other) is covered
    assert topics.overlap(one, other) is common


@pytest.mark.parametrize(
    ("pattern", "topic", "expected"),
    [
        ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", True),
        ("sport/tennis/player1/#", "sport/tennis/player1", True),
        ("sport/tennis/+", "sport/tennis/player1/ranking", False),
        ("sport/+", "sport", False),
        ("sport/+", "sport/", True),
        ("+/+", "/finance", True),
        ("+", "/finance", False),
        ("#", "$SYS/x", False),
        ("+/x", "$SYS/x", False),
        ("$SYS/#", "$SYS", True),
        ("$SYS/+", "$SYS/x", True),
        ("a/+", "a/$x", True),
        ("A", "a", False),
    ],
)
def test_matching_holds_for_the_examples_of_the_specification(pattern: str, topic: str, expected: bool) -> None:  # noqa: FBT001
    assert topics.matches(pattern, topic) is expected


@pytest.mark.parametrize(
    "pattern", ["", "a+", "+a/b", "a/#/b", "a#", "#/", "##", "++", "a\0b", "\ud800", "x" * 65_536, "$share/group/a"]
)
def test_a_bad_filter_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        topics.validate_filter(pattern)


@pytest.mark.parametrize("topic", ["", "a/+", "#", "a+b", "a\0b", "\ud800", "ä" * 32_768])
def test_a_bad_topic_is_refused(topic: str) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        topics.validate_topic(topic)


@pytest.mark.parametrize("topic", ["/", " ", "a//b", "$SYS/x", "ä" * 32_767])
def test_an_unusual_topic_is_a_topic_and_a_filter(topic: str) -> None:
    assert topics.validate_topic(topic) == topics.validate_filter(topic) == topic
    assert topics.matches(topic, topic)


@given(agent=agents, hub=names, run=names, client=agents, event=names)
def test_parsing_undoes_naming(agent: str, hub: str, run: str, client: str, event: str) -> None:
    for topic, address in [
        (topics.agent_card(agent), Address("agent_card", agent=agent)),
        (topics.agent_request(agent, run), Address("agent_request", agent=agent, run=run)),
        (topics.agent_control(agent), Address("agent_control", agent=agent)),
        (topics.agent_files(agent), Address("agent_files", agent=agent)),
        (topics.hub_card(hub), Address("hub_card", hub=hub)),
        (topics.hub_reply(hub, agent, run), Address("hub_reply", hub=hub, agent=agent, run=run)),
        (topics.hub_files(hub, agent), Address("hub_files", hub=hub, agent=agent)),
        (topics.submission(client), Address("submission", client=client)),
        (topics.client_answer(client), Address("client_answer", client=client)),
        (topics.client_files(client), Address("client_files", client=client)),
        (topics.run_event(run, event), Address("run_event", run=run, event=event)),
        (topics.run_outcome(run), Address("run_outcome", run=run)),
    ]:
        assert topics.validate_topic(topic) == topic
        assert topics.parse(topic) == address


@given(agent=agents, other=agents, hub=names, run=names)
def test_each_filter_matches_its_topics_and_no_others(agent: str, other: str, hub: str, run: str) -> None:
    everything = {
        "agent_card": topics.agent_card(agent),
        "agent_request": topics.agent_request(agent, run),
        "agent_control": topics.agent_control(agent),
        "agent_files": topics.agent_files(agent),
        "hub_card": topics.hub_card(hub),
        "hub_reply": topics.hub_reply(hub, agent, run),
        "hub_files": topics.hub_files(hub, agent),
        "submission": topics.submission(agent),
        "client_answer": topics.client_answer(agent),
        "client_files": topics.client_files(agent),
        "run_event": topics.run_event(run, "GoalAccepted"),
        "run_outcome": topics.run_outcome(run),
    }
    for pattern, kind in [
        (topics.agent_cards(), "agent_card"),
        (topics.agent_requests(agent), "agent_request"),
        (topics.hub_cards(), "hub_card"),
        (topics.hub_replies(hub), "hub_reply"),
        (topics.hub_file_calls(hub), "hub_files"),
        (topics.submissions(), "submission"),
        (topics.run_events(run), "run_event"),
    ]:
        topics.validate_filter(pattern)
        assert [found for found, topic in everything.items() if topics.matches(pattern, topic)] == [kind]
    assert topics.matches(topics.agent_requests(agent), topics.agent_request(other, run)) == (agent == other)


def test_names_are_spelled_as_the_wire_format_says() -> None:
    assert topics.agent_card("ada/1") == "swarm/v1/agent/ada/1/card"
    assert topics.agent_request("ada/1", "r7") == "swarm/v1/agent/ada/1/request/r7"
    assert topics.agent_control("ada/1") == "swarm/v1/agent/ada/1/control"
    assert topics.hub_reply("h", "ada/1", "r7") == "swarm/v1/hub/h/reply/ada/1/r7"
    assert topics.hub_card("h") == "swarm/v1/hub/h/card"
    assert topics.submission("ada/cli") == "swarm/v1/submit/ada/cli"
    assert topics.client_answer("ada/cli") == "swarm/v1/client/ada/cli/answer"
    assert topics.client_files("ada/cli") == "swarm/v1/client/ada/cli/files"
    assert topics.run_event("r7", "GoalAccepted") == "swarm/v1/run/r7/event/GoalAccepted"
    assert topics.run_outcome("r7") == "swarm/v1/run/r7/outcome"


@pytest.mark.parametrize("name", ["", "+", "#", "a/b", "$x", "a b", "a\n", "a\0", "ä", "a.b", "+/+"])
def test_a_name_that_could_change_a_topics_meaning_is_refused(name: str) -> None:
    for make in (topics.hub_card, topics.run_outcome, topics.hub_replies, topics.run_events):
        with pytest.raises(ValueError, match="cannot stand in a topic"):
            make(name)
    with pytest.raises(ValueError, match="cannot stand in a topic"):
        topics.agent_card(f"ada/{name}")
    with pytest.raises(ValueError, match="cannot stand in a topic"):
        topics.hub_reply("h", "ada/1", name)


@pytest.mark.parametrize("agent", ["ada", "", "ada/1/2", "/1", "ada/", "+/+"])
def test_an_agent_is_a_user_and_an_instance(agent: str) -> None:
    with pytest.raises(ValueError, match=r"is no agent|cannot stand in a topic"):
        topics.agent_requests(agent)


@pytest.mark.parametrize(
    "topic",
    [
        "",
        "swarm/v1",
        "swarm/v2/hub/h/card",
        "swarm/v1/hub/h",
        "swarm/v1/hub/h/card/",
        "swarm/v1/hub/h/reply/ada/r7",
        "swarm/v1/agent/ada/1/request",
        "swarm/v1/agent/ada/card",
        "swarm/v1/run/r/event/a.b",
        "swarm/v1/run/+/outcome",
        "swarm/v1/submit//",
        "$SYS/v1/hub/h/card",
    ],
)
def test_a_foreign_topic_is_no_address(topic: str) -> None:
    with pytest.raises(ValueError, match=r"no topic of ours|cannot stand in a topic"):
        topics.parse(topic)


changes = st.lists(
    st.tuples(st.sampled_from("pqr"), st.lists(filter_texts, min_size=1, max_size=3) | st.none(), topic_texts),
    max_size=12,
)


@given(changes)
def test_routes_know_who_wants_a_topic_after_any_change(history: list[tuple[str, list[str] | None, str]]) -> None:
    routes: Routes[str] = Routes(most=2)
    wanted: dict[str, list[str]] = {}
    seen = set()
    for target, filters, topic in history:
        routes.remove(target)
        wanted.pop(target, None)
        if filters is not None:
            routes.add(target, filters)
            wanted[target] = filters
        seen.add(topic)
        for each in sorted(seen):
            expected = [t for t, fs in wanted.items() if any(oracle(f.split("/"), each.split("/")) for f in fs)]
            assert sorted(routes[each]) == sorted(expected)


def test_a_bad_filter_adds_no_route() -> None:
    routes: Routes[str] = Routes()
    with pytest.raises(ValueError, match="whole level"):
        routes.add("p", ["a", "b+"])
    assert routes["a"] == ()
    with pytest.raises(ValueError, match="not a topic"):
        routes["a/+"]
