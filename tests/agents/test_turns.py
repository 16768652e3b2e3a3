"""Turns of the loop: who waits for some of them, and who for all others."""

import asyncio

from agents.turns import is_idle, turns


async def test_an_idle_loop_is_told_from_a_busy_one() -> None:
    """asyncio keeps what is to run in a place of its own; should it move, roles are only slower."""
    loop = asyncio.get_running_loop()
    assert is_idle(loop)
    loop.call_soon(int)
    assert not is_idle(loop)
    assert not is_idle(object())  # type: ignore[arg-type]


async def test_who_is_to_be_called_back_goes_on_before_who_waits_for_quiet() -> None:
    seen: list[str] = []
    done = asyncio.Event()

    def look(idle: bool) -> None:  # noqa: FBT001 - as `Turns` calls it
        assert idle
        seen.append("called")
        done.set()

    async def role() -> None:
        await done.wait()
        for _ in range(3):
            await asyncio.sleep(0)
        seen.append("went on")

    async def waits() -> None:
        assert await turns().quiet(100)
        seen.append("quiet")

    async with asyncio.TaskGroup() as group:
        group.create_task(waits())
        group.create_task(role())
        turns().call_at(turns().now + 100, look)
    assert seen == ["called", "went on", "quiet"]


async def test_a_loop_that_is_never_quiet_is_waited_for_some_turns() -> None:
    async def restless() -> None:
        while True:
            await asyncio.sleep(0)

    task = asyncio.create_task(restless())
    begun = turns().now
    assert not await turns().quiet(20)
    assert turns().now == begun + 20
    task.cancel()


async def test_who_no_longer_waits_holds_nobody_up() -> None:
    gone = asyncio.create_task(turns().quiet(10))
    await asyncio.sleep(0)
    gone.cancel()
    assert await turns().quiet(10)
