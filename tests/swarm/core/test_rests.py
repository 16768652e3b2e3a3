"""An agent that loses leases gets no more for a while, longer each time, and not for ever."""

from typing import Literal

from bus.events import AgentJoined, AgentLeft, AssignmentEnded, GoalFailed, GoalSubmitted, ResultSubmitted, TimePassed
from bus.setup import Limits, Subtask
from swarm.core.decide import next_deadline
from swarm.core.state import MOST_DOUBLED, MOST_LOST, REST_MS, Status
from tests.support.simulation import Simulation, setup_of


def with_one_agent(*names: str) -> Simulation:
    plan = tuple(Subtask(id=name, role="coder", instruction="do") for name in names or ("one",))
    made = Simulation(setup_of(limits=Limits(time_ms=10_000_000), plan=plan), seed=1)
    made.send(GoalSubmitted(setup=made.setup))
    made.send(AgentJoined(agent="u/a", roles=("coder",), slots=1))
    return made


def lose(run: Simulation, kind: Literal["silent", "not_held"] = "silent") -> None:
    (lease,) = run.state.leases
    run.send(AssignmentEnded(lease=lease, why="not heard of", kind=kind))


def test_who_lost_three_in_a_row_rests_and_is_then_given_another_try() -> None:
    run = with_one_agent("one", "two")
    for _ in range(MOST_LOST - 1):
        lose(run)
        assert run.state.leases
    for doubled in (*range(MOST_DOUBLED + 1), MOST_DOUBLED):
        lose(run)
        assert not run.state.leases
        assert run.state.subtasks["one"].status is Status.READY, "nobody works on it"
        due = next_deadline(run.state)
        assert due == run.elapsed_ms + REST_MS * 2**doubled
        run.send(AgentJoined(agent="u/a", roles=("coder",), slots=1))
        assert not run.state.leases, "it cannot cut its rest short by saying its card again"
        run.elapsed_ms = due
        run.send(TimePassed())
        (work,) = run.state.leases.values()
        assert next_deadline(run.state) == work.deadline_ms, "what is over is waited for no more"


def test_who_never_got_what_it_was_given_lost_nothing() -> None:
    run = with_one_agent()
    for _ in range(MOST_LOST + 1):
        lose(run, "not_held")
    assert run.state.leases


def test_a_role_that_all_who_offer_it_declined_fails_with_the_last_reason() -> None:
    run = with_one_agent()
    (lease,) = run.state.leases
    run.send(AssignmentEnded(lease=lease, why="u/a declined: it does not allow fetch_page", kind="declined"))
    run.elapsed_ms = next_deadline(run.state) or 0
    run.send(TimePassed())
    assert isinstance(run.state.ended, GoalFailed)
    assert run.state.ended.kind == "no_agent"
    assert run.state.ended.reason.startswith("all who offer the role 'coder' declined (waited ")
    assert run.state.ended.reason.endswith("the last: u/a declined: it does not allow fetch_page")


def test_a_rest_is_over_for_one_that_leaves_and_comes_back() -> None:
    run = with_one_agent()
    for _ in range(MOST_LOST):
        lose(run)
    run.send(AgentLeft(agent="u/a", why="gone"))
    run.send(AgentJoined(agent="u/a", roles=("coder",), slots=1))
    assert run.state.leases


def test_nobody_waits_for_the_rest_of_one_whose_role_is_not_wanted() -> None:
    run = with_one_agent()
    for _ in range(MOST_LOST):
        lose(run)
    assert next_deadline(run.state) == REST_MS
    run.send(AgentJoined(agent="u/b", roles=("coder",), slots=1))
    (work,) = run.state.leases.values()
    assert next_deadline(run.state) == work.deadline_ms


def test_a_reply_shows_that_an_agent_is_well() -> None:
    run = with_one_agent()
    for _ in range(MOST_LOST - 1):
        lose(run)
    assert run.state.agents["u/a"].lost == MOST_LOST - 1
    (lease,) = run.state.leases
    run._reply(run.jobs[lease])
    assert run.state.agents["u/a"].lost == 0


def test_the_slow_one_gets_what_the_quick_one_that_is_leaving_takes_no_more() -> None:
    plan = (Subtask(id="one", role="coder", instruction="do"),)
    run = Simulation(setup_of(limits=Limits(), plan=plan), seed=1)
    run.send(GoalSubmitted(setup=run.setup))
    for agent, pace_ms in (("u/a", 1), ("u/b", 1_000_000)):
        run.send(AgentJoined(agent=agent, roles=("coder",), slots=0))
        run.state.agents[agent].pace_ms["coder"] = pace_ms
    run.send(AgentJoined(agent="u/b", roles=("coder",), slots=1))
    assert run.state.agents["u/b"].pace_ms == {"coder": 1_000_000}
    assert [work.agent for work in run.state.leases.values()] == ["u/b"]


def test_of_slow_ones_the_quickest_gets_what_would_wait_for_the_quick_one() -> None:
    needs = {"one": (), "zero": (), "two": ("zero",), "three": ("zero",)}
    plan = tuple(Subtask(id=name, role="coder", instruction="do", needs=of) for name, of in needs.items())
    run = Simulation(setup_of(limits=Limits(), plan=plan), seed=1)
    run.send(GoalSubmitted(setup=run.setup))
    for agent, pace_ms in (("u/a", 1_000), ("u/b", 4_000), ("u/c", 2_500), ("u/d", 2_900)):
        run.send(AgentJoined(agent=agent, roles=("coder",), slots=1))
        run.state.agents[agent].pace_ms["coder"] = pace_ms
    held = {work.agent: lease for lease, work in run.state.leases.items()}
    assert held.keys() == {"u/a", "u/b"}
    run.send(ResultSubmitted(text="done"), "zero", held["u/b"])
    assert {work.agent: work.request for work in run.state.leases.values()} == {"u/a": "one", "u/c": "two"}


def test_a_role_that_only_one_offers_who_takes_nothing_more_is_lacking() -> None:
    run = with_one_agent()
    run.send(AgentJoined(agent="u/a", roles=("coder",), slots=0))
    assert run.state.leases, "it finishes what it holds"
    assert not run.state.lacking
    lose(run)
    assert run.state.lacking == {"coder": run.elapsed_ms}
    due = next_deadline(run.state)
    assert due is not None
    run.elapsed_ms = due
    run.send(TimePassed())
    assert isinstance(run.state.ended, GoalFailed)
    assert run.state.ended.kind == "no_agent"
    assert run.state.ended.reason == "nobody offers the role 'coder': waited 60 s of running time"
