"""What a subscription over a broker holds: taken in order, released when dealt with, claims redeemed in turn."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from bus.broker_queue import BrokerSubscription, Hold, Waiting
from bus.transport import Message


class Link:
    """Counts what is acknowledged at the broker."""

    def __init__(self) -> None:
        self.acknowledged: list[object] = []

    def acknowledge(self, arrived: object) -> None:
        self.acknowledged.append(arrived)


class Arrived:
    def __init__(self, link: Link) -> None:
        self.link = link


async def nothing(_topic: str, _claim: Mapping[str, Any]) -> Message | None:
    raise AssertionError("there is no claim")


def word(number: int) -> Message:
    return Message(None, {"note": "word", "number": number})


def put(subscription: BrokerSubscription, number: int, hold: Any = None) -> None:
    subscription.put(Waiting("a", word(number), hold, {}))


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def number_of(delivery: Any) -> int:
    return delivery.message.attachments["number"]


async def test_a_message_is_released_once_all_subscriptions_have_dealt_with_it() -> None:
    link, first, second = Link(), BrokerSubscription(nothing), BrokerSubscription(nothing)
    hold = Hold(Arrived(link), 2)
    put(first, 1, hold)
    put(second, 1, hold)
    mine, theirs = await first.get(), await second.get()
    mine.acknowledge()
    mine.acknowledge()
    assert not link.acknowledged
    theirs.acknowledge()
    assert len(link.acknowledged) == 1


@pytest.mark.parametrize("forget", [True, False])
async def test_a_closed_subscription_holds_nothing_up(forget: bool) -> None:  # noqa: FBT001
    link, subscription = Link(), BrokerSubscription(nothing)
    for number in range(3):
        put(subscription, number, Hold(Arrived(link), 1))
    taken = await subscription.get()
    subscription.close(forget=forget)
    assert len(link.acknowledged) == (3 if forget else 0)
    assert [number_of(await subscription.get()) for _ in range(2)] == [1, 2]
    taken.acknowledge()
    assert len(link.acknowledged) == (3 if forget else 0)
    with pytest.raises(StopAsyncIteration):
        await subscription.get()


async def test_a_cancelled_consumer_loses_nothing() -> None:
    subscription = BrokerSubscription(nothing)
    async with asyncio.TaskGroup() as tasks:
        gone, staying = (tasks.create_task(subscription.get()) for _ in range(2))
        await settle()
        put(subscription, 1)  # calls the first in line, who is then cancelled
        gone.cancel()
        assert number_of(await staying) == 1


async def test_consumers_that_wait_are_told_why_the_bus_is_gone() -> None:
    subscription = BrokerSubscription(nothing)
    waiting = asyncio.gather(subscription.get(), subscription.get(), return_exceptions=True)
    await settle()
    subscription.close(RuntimeError("gone"))
    assert [str(error) for error in await waiting] == ["gone", "gone"]


async def test_a_claim_is_redeemed_by_who_takes_it_and_holds_up_those_behind_it() -> None:
    doors: dict[str, asyncio.Future[Message | None]] = {}

    async def redeem(_topic: str, claim: Mapping[str, Any]) -> Message | None:
        doors[claim["sha256"]] = asyncio.get_running_loop().create_future()
        return await doors[claim["sha256"]]

    link, subscription = Link(), BrokerSubscription(redeem)
    subscription.put(Waiting("a", None, Hold(Arrived(link), 1), {"sha256": "x"}))
    put(subscription, 2)
    assert subscription.get_nowait() is None
    async with asyncio.TaskGroup() as tasks:
        hasty = tasks.create_task(subscription.get())
        await settle()
        hasty.cancel()
        await settle()
        first, second = (tasks.create_task(subscription.get()) for _ in range(2))
        await settle()
        assert not first.done()
        assert not second.done()
        doors["x"].set_result(word(1))
        assert [number_of(await first), number_of(await second)] == [1, 2]
    assert not link.acknowledged
    first.result().acknowledge()
    assert len(link.acknowledged) == 1


async def test_a_claim_for_nothing_is_passed_over_and_released() -> None:
    async def redeem(_topic: str, _claim: Mapping[str, Any]) -> Message | None:
        return None

    link, subscription = Link(), BrokerSubscription(redeem)
    subscription.put(Waiting("a", None, Hold(Arrived(link), 1), {"sha256": "x"}))
    put(subscription, 2)
    assert number_of(await subscription.get()) == 2
    assert len(link.acknowledged) == 1
