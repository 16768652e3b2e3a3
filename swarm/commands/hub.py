"""Be a hub: carry on any number of runs for those who submit them over a broker."""

import argparse
import os

SUMMARY = "carry on the runs that are submitted over a bus"
EXAMPLES = """\
  swarm hub --bus mqtt://127.0.0.1
  swarm hub --bus mqtts://broker.example?ca=ca.crt --log postgresql://swarm@db.example/swarm --config hub.yaml
  swarm hub --print-broker-config > mosquitto.conf
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what only this command takes."""
    parser.add_argument("--bus", metavar="URL", help="the broker: mqtt://HOST[:PORT] or mqtts://…")
    parser.add_argument("--log", metavar="URL", help="postgresql://… shared by several hubs; by default $SWARM_HOME")
    parser.add_argument("--config", metavar="FILE", help="roles, tools, endpoints and limits of this hub")
    parser.add_argument("--name", metavar="NAME", help="what the hub is called, unique on its bus (default: made up, kept)")
    parser.add_argument("--no-agents", action="store_true", help="bring no planner and critic of its own")
    parser.add_argument("--quiet", action="store_true", help="show no events of runs")
    parser.add_argument("--print-broker-config", action="store_true", help="print a configuration for mosquitto, and exit")


def run(args: argparse.Namespace) -> int:
    """Carry the command out."""
    from swarm.errors import UsageError  # noqa: PLC0415 - loads little

    if args.print_broker_config:
        from swarm.broker_config import broker_config  # noqa: PLC0415 - only here

        print(broker_config(), end="")  # noqa: T201 - the result
        return 0
    if not args.bus:
        raise UsageError("--bus: which broker? Such as --bus mqtt://127.0.0.1 (`swarm broker` starts one to try).")
    import asyncio  # noqa: PLC0415 - what runs agents loads here

    return asyncio.run(_run(args))


async def _run(args: argparse.Namespace) -> int:
    import asyncio  # noqa: PLC0415 - likewise

    from swarm.commands.serving import until_stopped  # noqa: PLC0415 - loads what runs agents
    from swarm.hub_config import HubConfig  # noqa: PLC0415 - likewise
    from swarm.serving import serve  # noqa: PLC0415 - likewise
    from swarm.settings import read_settings  # noqa: PLC0415 - likewise
    from swarm.telemetry import set_up  # noqa: PLC0415 - likewise
    from swarm.views.terminal import note  # noqa: PLC0415 - likewise
    from swarm.views.timeline import hub_line  # noqa: PLC0415 - likewise

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
                place=args.log or settings.home,
                config=config,
                name=args.name,
                agents=not args.no_agents,
                on_record=(lambda _: None) if args.quiet else (lambda envelope: note(hub_line(envelope))),
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
