"""Be a hub: carry on any number of runs for those who submit them over a broker."""

import argparse
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bus.envelope import Envelope

from swarm.commands.arguments import add_bus, bus_name

SUMMARY = "carry on the runs that are submitted over a bus"
EXAMPLES = """\
  swarm hub --bus mqtt://127.0.0.1
  swarm hub --bus mqtts://broker.example?ca=ca.crt --log postgresql://swarm@db.example/swarm --config hub.yaml
  swarm hub --print-broker-config > mosquitto.conf
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what only this command takes."""
    add_bus(parser, required=False)
    parser.add_argument(
        "--log", metavar="URL", help="postgresql://… shared by several hubs; by default $SWARM_STORE, else $SWARM_HOME"
    )
    parser.add_argument("--config", metavar="FILE", help="roles, tools, endpoints and limits of this hub")
    parser.add_argument(
        "--name",
        metavar="NAME",
        type=bus_name,
        help="what the hub is called, unique on its bus (default: made up, kept)",
    )
    parser.add_argument("--no-agents", action="store_true", help="bring no planner and critic of its own")
    parser.add_argument("--quiet", action="store_true", help="show no events of runs")
    parser.add_argument(
        "--print-broker-config",
        nargs="?",
        const="",
        metavar="FOLDER",
        help="print a configuration for mosquitto, or write it and its access list into a folder, and exit",
    )


def run(args: argparse.Namespace) -> int:
    """Carry the command out."""
    from swarm.errors import UsageError  # noqa: PLC0415 - loads little

    if args.print_broker_config is not None:
        return _broker_config(args.print_broker_config)
    if not args.bus:
        raise UsageError("--bus: which broker? Such as --bus mqtt://127.0.0.1 (`swarm broker` starts one to try).")
    import asyncio  # noqa: PLC0415 - what runs agents loads here

    return asyncio.run(_run(args))


async def _run(args: argparse.Namespace) -> int:
    import asyncio  # noqa: PLC0415 - likewise

    from swarm.commands.serving import until_stopped  # noqa: PLC0415 - loads what runs agents
    from swarm.hubs.hub_config import HubConfig  # noqa: PLC0415 - likewise
    from swarm.hubs.serving import serve  # noqa: PLC0415 - likewise
    from swarm.settings import check_store, read_settings  # noqa: PLC0415 - likewise
    from swarm.telemetry import set_up  # noqa: PLC0415 - likewise
    from swarm.views.terminal import note  # noqa: PLC0415 - likewise
    from swarm.views.timeline import headline  # noqa: PLC0415 - likewise

    def on_record(envelope: "Envelope") -> None:
        line = None if args.quiet else headline(envelope)
        if line is not None:
            note(line)

    if args.log:
        check_store(args.log, "--log")
    config = HubConfig.load(args.config) if args.config else HubConfig()
    for warning in config.warnings:
        note(f"warning: {warning}")
    settings = read_settings(os.environ)
    set_up(note, level=settings.env.get("SWARM_LOG") or "warning")
    with until_stopped() as stopping:
        hub = asyncio.create_task(
            serve(
                args.bus,
                settings,
                place=args.log or settings.place,
                config=config,
                name=args.name,
                agents=not args.no_agents,
                on_record=on_record,
                announce=note,
            ),
            name="hub",
        )
        stop = asyncio.create_task(stopping.wait(), name="stop")
        await asyncio.wait({hub, stop}, return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if not hub.done():
            note("stops; its runs go on with another hub, or when this one is started again")
            hub.cancel()
            await asyncio.wait({hub})
    if not hub.cancelled():
        hub.result()
    return 0


def _broker_config(folder: str) -> int:
    from pathlib import Path  # noqa: PLC0415 - loads only where it is used

    from swarm.brokers.broker_config import broker_config, config_files  # noqa: PLC0415 - likewise
    from swarm.errors import MissingPart, UsageError  # noqa: PLC0415 - likewise
    from swarm.views.terminal import say  # noqa: PLC0415 - likewise

    if not folder:
        say(broker_config())
        return 0
    place = Path(folder).absolute()
    try:
        files = config_files(str(place), str(place))
    except ValueError as error:
        raise UsageError(f"--print-broker-config: {error}") from error
    for name, text in files.items():
        try:
            with (place / name).open("x", encoding="utf-8") as stream:
                stream.write(text)
        except FileExistsError as error:
            raise UsageError(f"{place / name} is there already, and nothing is ever overwritten.") from error
        except OSError as error:
            raise MissingPart(f"{place / name} cannot be written: {error.strerror}.") from error
        say(f"wrote {place / name}")
    return 0
