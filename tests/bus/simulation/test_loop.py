"""The event loop with a time of its own."""

import asyncio
import contextvars
import time
from collections.abc import Coroutine, Iterator
from typing import Any

import pytest

from bus.simulation.loop import Stalled, VirtualLoop, process


@pytest.fixture
def loop() -> Iterator[VirtualLoop]:
    made = VirtualLoop()
    yield made
    made.close()


def begin(loop: VirtualLoop, name: str, call: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
    context = contextvars.Context()
    context.run(process.set, name)
    return loop.create_task(call, context=context)


def test_a_day_passes_at_once(loop: VirtualLoop) -> None:
    begun = time.monotonic()
    loop.run_until_complete(asyncio.sleep(86_400))
    assert loop.time() == 86_400
    assert time.monotonic() - begun < 5


def test_what_is_given_to_a_thread_is_done_at_once_and_here(loop: VirtualLoop) -> None:
    async def asked() -> float:
        await asyncio.to_thread(loop.time)
        with pytest.raises(ZeroDivisionError):
            await asyncio.to_thread(lambda: 1 / 0)
        return loop.time()

    assert loop.run_until_complete(asked()) == 0


def test_a_frozen_process_stands_while_others_go_on_and_then_finds_its_timers_late(loop: VirtualLoop) -> None:
    ticks: list[tuple[str, float]] = []

    async def tick(name: str) -> None:
        for _ in range(3):
            await asyncio.sleep(1)
            ticks.append((name, loop.time()))

    async def main() -> None:
        frozen, other = begin(loop, "frozen", tick("frozen")), begin(loop, "other", tick("other"))
        await asyncio.sleep(0.5)
        loop.freeze("frozen")
        assert loop.is_frozen("frozen")
        await asyncio.sleep(9.5)
        loop.thaw("frozen")
        await asyncio.gather(frozen, other)

    loop.run_until_complete(main())
    assert [at for name, at in ticks if name == "other"] == [1, 2, 3]
    assert [at for name, at in ticks if name == "frozen"] == [10, 11, 12]


def test_a_timer_that_was_cancelled_does_not_fire(loop: VirtualLoop) -> None:
    fired = []
    loop.call_later(1, fired.append, 1).cancel()
    loop.run_until_complete(asyncio.sleep(2))
    assert not fired


def test_waiting_for_what_can_never_happen_is_an_error(loop: VirtualLoop) -> None:
    with pytest.raises(Stalled, match="nothing can happen"):
        loop.run_until_complete(asyncio.Event().wait())


def test_turning_for_ever_without_time_is_an_error(loop: VirtualLoop) -> None:
    async def turn() -> None:
        while True:
            await asyncio.sleep(0)

    with pytest.raises(Stalled, match="time cannot pass"):
        loop.run_until_complete(turn())
