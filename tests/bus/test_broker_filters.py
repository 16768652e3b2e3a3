"""Which filters a broker is told of, and which of several copies of a message counts."""

from bus.broker_filters import BrokerFilter, BrokerFilters


def held(filters: BrokerFilters, *patterns: str) -> tuple[list[BrokerFilter], list[str]]:
    mine: list[BrokerFilter] = []
    return mine, [it.pattern for it in filters.hold(patterns, mine)]


def test_what_a_wider_filter_brings_is_not_asked_for_again() -> None:
    filters = BrokerFilters()
    assert held(filters, "swarm/a/#", "swarm/a/b", "swarm/+/b", "swarm/a/#")[1] == ["swarm/a/#", "swarm/+/b"]
    assert held(filters, "swarm/a/c", "swarm/d")[1] == ["swarm/d"]
    assert [it.pattern for it in filters] == ["swarm/a/#", "swarm/+/b", "swarm/d"]


def test_a_filter_is_wanted_until_the_last_that_lives_by_it_has_gone() -> None:
    filters = BrokerFilters()
    first, _ = held(filters, "swarm/a/#")
    second, _ = held(filters, "swarm/a/b")
    assert filters.let_go(first) == []
    assert filters.cover("swarm/a/b")
    assert filters.let_go(second) == ["swarm/a/#"]
    assert not filters.cover("swarm/a/b")


def test_of_copies_that_came_by_filters_that_overlap_one_counts() -> None:
    filters = BrokerFilters()
    first: list[BrokerFilter] = []
    second: list[BrokerFilter] = []
    assert not filters.number_overlapping(filters.hold(["swarm/a/+", "swarm/c"], first))
    new = filters.hold(["swarm/+/b"], second)
    assert filters.number_overlapping(new) == [first[0]], "the broker knows it without its number"
    assert [it.identifier for it in (*first, *second)] == [1, None, 2]
    assert filters.is_copy("swarm/a/b", (2,))
    assert not filters.is_copy("swarm/a/b", (1,))
    assert not filters.is_copy("swarm/a/b", (1, 2)), "it came once, by both"
    assert not filters.is_copy("swarm/d/b", (2,)), "the other filter does not match it"
    assert not filters.is_copy("swarm/c", ())
