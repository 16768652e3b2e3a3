"""Show who is on a bus: agents with their roles, and hubs."""

import argparse
from typing import TYPE_CHECKING

from swarm.commands.arguments import add_bus

if TYPE_CHECKING:
    from bus.pubsub import Note

SUMMARY = "show which agents and hubs are on a bus"
EXAMPLES = """\
  swarm agents --bus mqtt://127.0.0.1
  swarm agents --bus mqtt://127.0.0.1 --watch
  swarm agents --bus mqtt://127.0.0.1 --json
"""
CARDS_S = 1.0
"""How long cards may take to come."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what only this command takes."""
    add_bus(parser)
    parser.add_argument("--watch", action="store_true", help="go on, and show who comes and goes")
    parser.add_argument("--json", action="store_true", help="one JSON object for each agent and hub")


def run(args: argparse.Namespace) -> int:
    """Carry the command out."""
    from swarm.commands.watching import stoppable  # noqa: PLC0415 - loads what runs agents

    return stoppable(lambda: _run(args))


async def _run(args: argparse.Namespace) -> int:
    import asyncio  # noqa: PLC0415 - loads only where it is used
    from contextlib import suppress  # noqa: PLC0415 - likewise

    from bus import topics  # noqa: PLC0415 - likewise
    from bus.errors import BadEnvelope  # noqa: PLC0415 - likewise
    from bus.pubsub import Bus, Note  # noqa: PLC0415 - likewise
    from bus.transports.mqtt import MqttTransport  # noqa: PLC0415 - likewise
    from swarm.views.terminal import note  # noqa: PLC0415 - likewise

    async with (
        MqttTransport(args.bus, announce=note) as transport,
        Bus(transport).subscribe(topics.agent_cards(), topics.hub_cards(), kinds=Note) as inbox,
    ):
        seen = False
        with suppress(TimeoutError):
            async with asyncio.timeout(None if args.watch else CARDS_S):
                async for received in inbox:
                    seen = True
                    try:
                        _show(args, received.topic, received.content)
                    except BadEnvelope as error:
                        note(f"{received.topic}: {error}")
                    received.acknowledge()
    if not seen and not args.json:
        note("nobody is there: `swarm hub --bus URL` starts a hub, `swarm attach ROLE --bus URL` an agent")
    return 0


def _show(args: argparse.Namespace, topic: str, note: "Note") -> None:
    import json  # noqa: PLC0415 - loads only where it is used

    from bus import topics  # noqa: PLC0415 - likewise
    from bus.cards import HubCard, read_agent_card, read_hub_card  # noqa: PLC0415 - likewise
    from swarm.views.terminal import one_line, say  # noqa: PLC0415 - likewise

    address = topics.parse(topic)
    kind, name = ("hub", address.hub) if address.hub else ("agent", address.agent)
    if not note.kind:
        say(json.dumps({kind: name, "gone": True}) if args.json else f"{kind:<6} {name:<32} gone")
        return
    card = read_hub_card(note) if address.hub else read_agent_card(note)
    if args.json:
        say(json.dumps({kind: name, **card.model_dump(mode="json")}))
    elif isinstance(card, HubCard):
        say(f"{kind:<6} {name:<32} version {one_line(card.software, 40)}")
    else:
        roles = ", ".join(one.name for one in card.roles)
        where = f", on {one_line(card.host, 60)}" if card.host else ""
        room = f"{card.slots} at once" if card.slots else "takes nothing more"
        say(f"{kind:<6} {name:<32} {roles}, {room}{where}")
