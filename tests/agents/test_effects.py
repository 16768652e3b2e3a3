"""The engine under a context: what is recorded is handed over in order, alone, and before anything new is done."""

import asyncio
import contextlib
import gc
import time
from collections.abc import Sequence

import pytest

from agents import lookout
from agents.effects import Course, Effects, Parted, reply_of
from agents.errors import Diverged, RunMustPause
from bus.events import Effect, ToolCalled, ToolReturned, ValueDrawn


def drawn(*path: int, value: float = 0.5) -> ValueDrawn:
    return ValueDrawn(attempt=1, path=path, kind="random", value=value)


class Told:
    """A way to the orchestrator that only notes what comes."""

    def __init__(self) -> None:
        self.events: list[Effect] = []

    async def ask(self, event: Effect) -> int:
        self.events.append(event)
        return 7

    async def tell(self, event: Effect) -> None:
        self.events.append(event)


def entered(recorded: Sequence[Effect]) -> tuple[Effects, Told]:
    told = Told()
    effects = Effects(recorded, told)
    effects.enter()
    return effects, told


async def draw(effects: Effects, value: float) -> float:
    """Draw a value as a context does."""
    path = effects.next_path()
    entry = effects.begin(drawn(*path, value=0.0))
    if entry is not None and entry.outcome is not None:
        outcome = await effects.recorded(entry)
        assert isinstance(outcome, ValueDrawn)
        return outcome.value
    await effects.live()
    await effects.done(drawn(*path, value=value))
    return value


async def test_what_is_recorded_is_answered_and_what_is_new_is_told() -> None:
    effects, told = entered([drawn(0, value=0.1), drawn(1, value=0.2)])
    assert [await draw(effects, 0.9) for _ in range(3)] == [0.1, 0.2, 0.9]
    assert told.events == [drawn(2, value=0.9)]
    assert effects.count == 3


async def test_each_task_of_a_role_has_a_lane_of_its_own() -> None:
    effects, told = entered([])
    await draw(effects, 0.0)

    async def branch(value: float) -> None:
        await draw(effects, value)
        await draw(effects, value)

    async with asyncio.TaskGroup() as group:
        for value in (0.1, 0.2):
            group.create_task(branch(value))
    await draw(effects, 0.3)
    assert sorted(event.path for event in told.events) == [(0,), (1, 0), (1, 1), (2, 0), (2, 1), (3,)]


async def test_what_a_thread_without_the_roles_context_has_done_in_its_loop_is_a_task_of_the_role() -> None:
    effects, told = entered([])
    await draw(effects, 0.0)
    loop = asyncio.get_running_loop()

    def in_a_thread(value: float) -> float:
        return asyncio.run_coroutine_threadsafe(draw(effects, value), loop).result()

    assert await loop.run_in_executor(None, in_a_thread, 0.1) == 0.1
    await draw(effects, 0.2)
    assert [event.path for event in told.events] == [(0,), (1, 0), (2,)]


async def test_an_effect_in_a_loop_of_a_thread_is_refused_and_not_waited_for() -> None:
    effects, told = entered([])

    def in_a_thread() -> float:
        return asyncio.run(asyncio.wait_for(draw(effects, 0.1), 5))

    with pytest.raises(RuntimeError, match=r"asyncio\.run_coroutine_threadsafe"):
        await asyncio.to_thread(in_a_thread)
    assert await draw(effects, 0.2) == 0.2
    assert [event.path for event in told.events] == [(0,)]


async def test_outcomes_come_one_at_a_time_also_when_they_were_told_together() -> None:
    effects, _ = entered([])
    seen: list[set[str]] = []
    pending = {asyncio.create_task(draw(effects, 0.1), name=name) for name in "abcd"}
    while pending:
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        seen.append({task.get_name() for task in done})
    assert [len(one) for one in seen] == [1, 1, 1, 1]


async def test_an_outcome_whose_task_was_cancelled_holds_nobody_up() -> None:
    effects, told = entered([])
    tasks = [asyncio.create_task(draw(effects, 0.1)) for _ in range(3)]
    await asyncio.sleep(0)
    tasks[0].cancel()
    ended = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(ended[0], asyncio.CancelledError)
    assert ended[1:] == [0.1, 0.1]
    assert effects.count == len(told.events)


async def test_nothing_new_is_done_before_all_that_is_recorded_has_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookout, "LOOK_S", 0.002)
    told = Told()
    effects = Effects([drawn(0), drawn(5)], told)

    async def other() -> None:
        await draw(effects, 0.9)
        await draw(effects, 0.9)

    with pytest.raises(Diverged, match="has not begun ValueDrawn 5, which its log has") as caught:
        await reply_of(effects, other())
    assert caught.value.at == 1
    assert told.events == []


@pytest.mark.parametrize("course", ["live", "recorded"])
async def test_who_waits_only_for_what_is_recorded_is_told_what_the_role_never_began(
    monkeypatch: pytest.MonkeyPatch, course: Course
) -> None:
    """The log has the second of two side by side first, and the role begins it no more."""
    monkeypatch.setattr(lookout, "LOOK_S", 0.002)
    effects = Effects([drawn(1, 0), drawn(0, 0), drawn(2)], Told(), course=course)

    async def alone() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(draw(effects, 0.0))
        await draw(effects, 0.0)

    with pytest.raises(Diverged, match=r"has not begun ValueDrawn 1\.0, which its log has"):
        await reply_of(effects, alone())


@pytest.mark.parametrize("course", ["live", "recorded"])
async def test_a_role_that_leaves_out_what_its_log_has_last_differs_whatever_it_says(course: Course) -> None:
    async def says(*, ends: bool) -> str:
        await draw(effects, 0.0)
        if ends:
            raise ValueError("of no use")
        return "done"

    for ends, more in ((False, ""), (True, " It raised ValueError: of no use")):
        effects = Effects([drawn(0), drawn(1)], Told(), course=course)
        with pytest.raises(Diverged) as caught:
            await reply_of(effects, says(ends=ends))
        assert str(caught.value) == f"the role ended without ValueDrawn 1, which its log has.{more}"
    effects = Effects([drawn(0), drawn(1)], Told(), course="fork")
    assert await reply_of(effects, says(ends=False)) == Parted(1)


@pytest.mark.parametrize("course", ["live", "recorded"])
async def test_a_role_that_makes_nothing_of_what_differs_has_differed_all_the_same(course: Course) -> None:
    told = Told()
    effects = Effects([drawn(0)], told, course=course)

    async def careless() -> str:
        while True:
            try:
                with effects:
                    effects.begin(ToolReturned(attempt=1, path=(0,), digest="d", tool="t", arguments={}, output=""))
            except Diverged:
                await asyncio.gather(draw(effects, 0.1), return_exceptions=True)
                return "all is well"

    with pytest.raises(Diverged, match="the role began ToolReturned 0, its log has ValueDrawn 0 there"):
        await reply_of(effects, careless())
    assert told.events == [], "nothing more was done for it"


async def test_the_first_of_what_ends_an_attempt_counts() -> None:
    effects = Effects([], Told())

    async def stubborn() -> str:
        for reason in ("no key", "no paper"):
            with contextlib.suppress(RunMustPause), effects:
                raise RunMustPause(reason)
        return "all is well"

    with pytest.raises(RunMustPause, match="no key"):
        await reply_of(effects, stubborn())


@pytest.mark.parametrize("course", ["live", "recorded"])
async def test_a_role_that_waits_for_a_timer_of_its_own_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, course: Course
) -> None:
    """A replay does not wait: the timer is over as soon as nothing else can happen."""
    monkeypatch.setattr(lookout, "LOOK_S", 0.002)
    long_s = 3600.0 if course == "recorded" else 0.3
    called = ToolCalled(attempt=1, path=(0, 0), digest="slow", tool="slow", arguments={})
    effects = Effects([called, drawn(1), drawn(2)], Told(), course=course)

    async def slow() -> None:
        effects.begin(called.model_copy(update={"path": effects.next_path()}))
        await effects.live()

    async def impatient() -> float:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(long_s):
                await asyncio.create_task(slow())
        await draw(effects, 0.9)
        await asyncio.sleep(long_s)
        return await draw(effects, 0.9)

    async with asyncio.timeout(5):
        assert await reply_of(effects, impatient()) == 0.5


@pytest.mark.parametrize("course", ["live", "recorded"])
async def test_a_role_that_waits_for_a_thread_of_its_own_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, course: Course
) -> None:
    """Also where a timer bounds it: the thread is done before that."""
    monkeypatch.setattr(lookout, "LOOK_S", 0.002)
    effects = Effects([drawn(1, 0), drawn(0, 0)], Told(), course=course)

    async def thinks() -> None:
        async with asyncio.timeout(60):
            await asyncio.to_thread(time.sleep, 0.3)
        await draw(effects, 0.9)

    async def both() -> str:
        async with asyncio.TaskGroup() as group:
            group.create_task(draw(effects, 0.9))
            group.create_task(thinks())
        return "done"

    assert await reply_of(effects, both()) == "done"


async def test_a_role_that_goes_on_is_not_held_for_one_that_went_another_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """One task waits with something new while another is still at what is recorded, and takes its time."""
    monkeypatch.setattr(lookout, "LOOK_S", 0.002)
    effects, told = entered([drawn(0, number) for number in range(6)])

    async def slow() -> None:
        for _ in range(6):
            await draw(effects, 0.9)
            await asyncio.sleep(0.1)

    async with asyncio.TaskGroup() as group:
        group.create_task(slow())
        group.create_task(draw(effects, 0.8))
    assert [event.path for event in told.events] == [(1, 0)]


@pytest.mark.parametrize("how", ["replied", "cancelled", "parted"])
async def test_tasks_that_a_role_leaves_behind_end_with_it(how: str) -> None:
    """What they would do belongs to no attempt any more, and nobody would hear of it."""
    effects = Effects(
        [drawn(0, 0)] if how == "parted" else [], Told(), course="recorded" if how == "parted" else "live"
    )
    ended: list[str] = []

    async def left(name: str) -> None:
        try:
            await draw(effects, 0.0)
            await asyncio.sleep(9)
        finally:
            await asyncio.sleep(0)
            ended.append(name)

    async def leaves() -> str:
        tasks = [asyncio.create_task(left("one"))]
        await asyncio.sleep(0.01)
        if how == "replied":
            return "done"
        if how == "parted":
            await draw(effects, 0.0)
        await tasks[0]
        return "too late"

    attempt = asyncio.create_task(reply_of(effects, leaves()))
    if how == "cancelled":
        await asyncio.sleep(0.05)
        attempt.cancel()
    (outcome,) = await asyncio.gather(attempt, return_exceptions=True)
    assert outcome == {"replied": "done", "parted": Parted(1)}.get(how, outcome)
    assert ended == ["one"]


async def test_an_effect_after_its_role_has_replied_is_refused() -> None:
    effects, later = Effects([], told := Told()), asyncio.Event()

    async def late() -> None:
        await later.wait()
        await draw(effects, 0.0)

    async def leaves() -> "asyncio.Task[None]":
        return asyncio.create_task(late())

    task = await reply_of(effects, leaves())
    later.set()
    with pytest.raises(RuntimeError, match="wait for all tasks"):
        await task
    assert not told.events


async def test_what_ends_an_attempt_in_a_task_that_nobody_waits_for_is_no_lost_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lookout, "LOOK_S", 0.002)
    lost: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: lost.append(context))

    async def attempt() -> None:
        recorded = ToolReturned(attempt=1, path=(0, 0), digest="d", tool="t", arguments={}, output="")
        effects = Effects([recorded], Told())

        async def begins() -> None:
            with effects:
                await draw(effects, 0.0)

        async def leaves() -> None:
            tasks = [asyncio.create_task(begins()) for _ in range(2)]
            await asyncio.sleep(9)
            del tasks

        with contextlib.suppress(Diverged):
            await reply_of(effects, leaves())

    await attempt()
    await asyncio.sleep(0.01)
    gc.collect()
    assert lost == []


async def test_an_intent_waits_for_its_word() -> None:
    effects, _ = entered([])
    assert await effects.ask(drawn(0)) == 7
    assert effects.count == 1


async def test_an_outcome_waits_for_all_that_the_role_does_about_the_one_before() -> None:
    """Tasks that need some turns before their first effect open their lanes before the next outcome comes."""

    async def late(effects: Effects) -> float:
        for _ in range(5):
            await asyncio.sleep(0)
        return await draw(effects, 0.5)

    async def role(effects: Effects) -> list[tuple[int, ...]]:
        effects.enter()
        task = asyncio.create_task(late(effects))
        await draw(effects, 0.1)
        await draw(effects, 0.2)
        await task
        return [event.path for event in told.events]

    told = Told()
    effects = Effects([], told)
    live = await role(effects)
    again = Effects(told.events, told)
    assert await role(again) == live
    assert (1, 0) in live, "the task began before the second effect of the role's own"


async def begin_again(effects: Effects, *, end: BaseException | None = None) -> str:
    """Draw beyond the log, as a role that minds being ended: it answers, or raises `end`."""
    await draw(effects, 0.0)
    try:
        await draw(effects, 0.0)
    except asyncio.CancelledError:
        if end is not None:
            raise end from None
    return "all the same"


@pytest.mark.parametrize("end", [None, ValueError("ended"), SystemExit(1), TimeoutError()])
async def test_a_role_has_parted_where_its_log_ends_whatever_it_says_of_it(end: BaseException | None) -> None:
    told = Told()
    effects = Effects([drawn(0)], told, course="recorded")
    assert await reply_of(effects, begin_again(effects, end=end)) == Parted(1)
    assert told.events == []
    task = asyncio.current_task()
    assert task is not None
    assert not task.cancelling()


@pytest.mark.parametrize("bound", ["timeout", "wait_for", "wait"])
async def test_what_a_roles_own_timeout_cut_off_is_cut_off_in_a_replay(
    monkeypatch: pytest.MonkeyPatch, bound: str
) -> None:
    """The log has no word of it: the role has not parted before its timers are over."""
    monkeypatch.setattr(lookout, "LOOK_S", 0.002)
    effects = Effects([drawn(0)], Told(), course="recorded")

    async def gives_up() -> str:
        await draw(effects, 0.0)
        if bound == "wait":
            done, _ = await asyncio.wait([asyncio.create_task(draw(effects, 0.0))], timeout=60)
            return "gave up" if not done else "waited"
        with contextlib.suppress(TimeoutError):
            if bound == "wait_for":
                await asyncio.wait_for(draw(effects, 0.0), 60)
            async with asyncio.timeout(60):
                await draw(effects, 0.0)
        return "gave up"

    async with asyncio.timeout(5):
        assert await reply_of(effects, gives_up()) == "gave up"


async def test_a_role_has_parted_where_its_log_ends_however_often_it_looks_at_a_timer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lookout, "LOOK_S", 0.002)
    effects = Effects([drawn(0)], Told(), course="recorded")

    async def ticks() -> None:
        while True:
            await asyncio.sleep(60)

    async def role() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(ticks())
            await draw(effects, 0.0)
            await draw(effects, 0.0)

    async with asyncio.timeout(5):
        assert await reply_of(effects, role()) == Parted(1)


async def test_what_a_role_raises_of_its_own_passes() -> None:
    async def broken() -> None:
        raise TimeoutError("its own")

    with pytest.raises(TimeoutError, match="its own"):
        await reply_of(Effects([], Told(), course="recorded"), broken())


async def test_an_attempt_without_a_reply_is_gone_through_as_far_as_its_log_goes() -> None:
    effects = Effects([drawn(0)], Told(), course="recorded")

    async def waits() -> None:
        await draw(effects, 0.0)
        await asyncio.Event().wait()

    assert await reply_of(effects, waits(), only_recorded=True) == Parted(1)


async def test_what_the_last_outcome_makes_a_role_do_comes_before_what_waits_for_the_end_of_the_log() -> None:
    """One of two tasks fails on the last outcome; the other began what the log has no outcome of."""
    effects = Effects([drawn(0, 0)], Told(), course="recorded")

    async def fails() -> None:
        await draw(effects, 0.0)
        raise ValueError("on the last outcome")

    async def both() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(fails())
            group.create_task(draw(effects, 0.0))

    with pytest.raises(ExceptionGroup):
        await reply_of(effects, both())
