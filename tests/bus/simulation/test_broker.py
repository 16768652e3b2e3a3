"""A simulated broker behaves as badly as real ones were seen to, and a client of it copes as ours does with those."""

import asyncio
import random
from collections.abc import Coroutine
from typing import Any

import pytest

from bus.errors import BusUnavailable
from bus.simulation.broker import NetworkFaults, SimulatedBroker
from bus.simulation.loop import VirtualLoop
from bus.transport import Message, Subscription
from bus.transports.simulated import SimulatedTransport

SLOW = NetworkFaults(delay_s=0.01)


def simulated(main: Coroutine[Any, Any, None]) -> None:
    loop = VirtualLoop()
    try:
        loop.run_until_complete(main)
    finally:
        loop.close()


def note(number: int) -> Message:
    return Message(None, {"note": "count", "number": number})


async def numbers(subscription: Subscription) -> list[int]:
    """Return what has come by now, acknowledged."""
    await asyncio.sleep(30)
    found = []
    while (delivery := subscription.get_nowait()) is not None:
        found.append(delivery.message.attachments.get("number"))
        delivery.acknowledge()
    return found


def broker_with(**faults: Any) -> SimulatedBroker:
    return SimulatedBroker(NetworkFaults(**({"delay_s": 0.01} | faults)), random.Random(1))


def test_all_is_acknowledged_and_what_a_full_queue_has_no_room_for_is_gone_without_a_word() -> None:
    async def main() -> None:
        broker = broker_with(queue=5)
        async with (
            SimulatedTransport(broker, client_id="slow", receive_maximum=2) as slow,
            SimulatedTransport(broker, client_id="quick") as quick,
            slow.subscribe("a") as inbox,
        ):
            for number in range(20):
                await quick.publish("a", note(number))
            assert await numbers(inbox) == [0, 1]
            assert await numbers(inbox) == [2, 3]
            assert broker.counts["dropped: the queue is full"] == 13

    simulated(main())


def test_a_killed_broker_forgets_sessions_queues_and_words() -> None:
    async def main() -> None:
        broker = broker_with()
        async with (
            SimulatedTransport(broker, client_id="one") as one,
            SimulatedTransport(broker, client_id="two") as two,
            one.subscribe("a", "card") as inbox,
        ):
            await two.publish("card", note(7), retain=True)
            assert await numbers(inbox) == [7]
            await two.publish("a", note(1))
            broker.crash()
            asyncio.get_running_loop().call_later(2.0, lambda: broker.restart(keeps_words=False))
            await two.publish("a", note(2))
            got = await numbers(inbox)
            assert 1 not in got, "the broker had taken it, and forgot it"
            assert None in got, "a word that is not there any more is told as cleared"

    simulated(main())


def test_a_client_that_falls_silent_is_taken_for_dead_and_its_will_is_spoken() -> None:
    async def main() -> None:
        broker = broker_with()
        watcher, client = (
            SimulatedTransport(broker, client_id="w"),
            SimulatedTransport(broker, client_id="c", will_topic="card"),
        )
        async with watcher, client, watcher.subscribe("card") as inbox:
            await client.publish("card", note(1), retain=True)
            assert await numbers(inbox) == [1]
            broker.fall_silent("c", 5.0)
            assert await numbers(inbox) == [], "it came back in time"
            broker.fall_silent("c", 20.0)
            assert await numbers(inbox) == [None]

    simulated(main())


def test_a_killed_process_whose_machine_says_nothing_is_noticed_by_its_silence() -> None:
    async def main() -> None:
        broker = broker_with()
        watcher, client = (
            SimulatedTransport(broker, client_id="w"),
            SimulatedTransport(broker, client_id="c", will_topic="card"),
        )
        async with watcher, watcher.subscribe("card") as inbox:
            await client.__aenter__()
            await client.publish("card", note(1), retain=True)
            await inbox.get()
            begun = asyncio.get_running_loop().time()
            client.vanish(seen=False)
            await inbox.get()
            assert asyncio.get_running_loop().time() - begun == pytest.approx(7.5, abs=0.2)

    simulated(main())


@pytest.mark.parametrize(("fault", "wanted"), [("lost", 0), ("doubled", 2)])
def test_messages_are_lost_and_doubled(fault: str, wanted: int) -> None:
    async def main() -> None:
        broker = broker_with(**{fault: 1.0})
        async with SimulatedTransport(broker, client_id="one") as one, one.subscribe("a") as inbox:
            for number in range(3):
                await one.publish("a", note(number))
            got = await numbers(inbox)
            assert all(got.count(number) == wanted for number in range(3)), got

    simulated(main())


def test_messages_overtake_one_another_only_where_that_is_wanted() -> None:
    async def order(**faults: float) -> list[int]:
        broker = broker_with(**faults)
        async with SimulatedTransport(broker, client_id="one") as one, one.subscribe("a") as inbox:
            for number in range(50):
                await one.publish("a", note(number))
            return await numbers(inbox)

    async def main() -> None:
        assert await order() == list(range(50))
        late = await order(overtaken=0.3)
        assert sorted(late) == list(range(50))
        assert late != list(range(50))

    simulated(main())


def test_a_session_that_is_kept_gets_again_what_was_not_acknowledged() -> None:
    async def main() -> None:
        broker = broker_with()
        keeps = SimulatedTransport(broker, client_id="k", keeps_session=True)
        async with keeps, keeps.subscribe("a") as inbox, SimulatedTransport(broker, client_id="o") as other:
            await other.publish("a", note(1))
            await inbox.get()
            broker.reset("k")
            await other.publish("a", note(2))
            assert await numbers(inbox) == [1, 2]

    simulated(main())


def test_a_broker_that_stays_away_is_an_error_after_a_while() -> None:
    async def main() -> None:
        broker = broker_with()
        async with SimulatedTransport(broker, client_id="one", patience_s=10) as one:
            broker.crash()
            with pytest.raises(BusUnavailable):
                await one.publish("a", note(1))
            assert asyncio.get_running_loop().time() > 10

    simulated(main())


def test_what_is_to_be_done_after_a_reconnection_and_fails_ends_the_transport_where_somebody_waits() -> None:
    async def main() -> None:
        broker, calls = SimulatedBroker(), 0

        async def on_connect() -> None:
            nonlocal calls
            calls += 1
            if calls > 1:
                raise KeyError("no card")

        async with (
            SimulatedTransport(broker, client_id="a", on_connect=on_connect) as transport,
            transport.subscribe("x") as subscription,
        ):
            broker.reset("a")
            with pytest.raises(KeyError, match="no card"):
                await subscription.get()
            with pytest.raises(KeyError, match="no card"):
                async with transport.subscribe("y"):
                    pass

    simulated(main())
