"""Bring agents of a role to a live swarm: over a broker, to whatever hubs are there."""

import argparse
import os
from pathlib import Path

from swarm.commands.arguments import add_bus, bus_name

SUMMARY = "bring agents of a role to the hubs on a bus"
EXAMPLES = """\
  swarm attach coder --bus mqtt://127.0.0.1
  swarm attach researcher --bus mqtt://127.0.0.1 --tools fetch_page --network public --agents 8
  swarm attach editor.py:Editor --bus mqtts://broker.example?ca=ca.crt --model openai:gpt-5-mini
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what only this command takes."""
    parser.add_argument("roles", metavar="ROLE|FILE:CLASS", nargs="+", help="roles of ours, or of one's own")
    add_bus(parser)
    parser.add_argument("--agents", metavar="N", type=int, default=4, help="requests worked on at once (default: 4)")
    parser.add_argument("--model", metavar="MODEL", help="provider:name, whatever a request says")
    parser.add_argument("--tools", metavar="A,B", help="tools that requests may use beyond the role's own")
    parser.add_argument("--network", metavar="WHERE", help="public, none (the default) or hosts, by comma")
    parser.add_argument(
        "--private-host", metavar="HOST:PORT", action="append", default=[], help="of the private network, for tools"
    )
    parser.add_argument(
        "--name",
        metavar="NAME",
        type=bus_name,
        help="what the agent is called, unique for its user (default: made up)",
    )


def run(args: argparse.Namespace) -> int:
    """Carry the command out."""
    import asyncio  # noqa: PLC0415 - what runs agents loads here

    from swarm.errors import UsageError  # noqa: PLC0415 - likewise

    if not 1 <= args.agents <= 10_000:  # noqa: PLR2004 - more would be many processes
        raise UsageError("--agents: from 1 to 10,000")
    return asyncio.run(_run(args))


async def _run(args: argparse.Namespace) -> int:
    from swarm.attached.attaching import attach, bring, default_model  # noqa: PLC0415 - loads what runs agents
    from swarm.attached.worker_caps import worker_caps  # noqa: PLC0415 - likewise
    from swarm.commands.serving import until_stopped  # noqa: PLC0415 - likewise
    from swarm.settings import read_settings  # noqa: PLC0415 - likewise
    from swarm.telemetry import set_up  # noqa: PLC0415 - likewise
    from swarm.views.terminal import note  # noqa: PLC0415 - likewise

    folder = Path.cwd()
    settings = read_settings(os.environ, folder)
    set_up(note, level=settings.env.get("SWARM_LOG") or "warning")
    brought = [bring(one, folder) for one in args.roles]
    models = {one.name: args.model for one in brought} if args.model else {}
    caps = {
        one.name: worker_caps(
            one.role.tools,
            tools=args.tools,
            network=args.network,
            private_hosts=args.private_host,
            models=models,
            folder=folder,
        )
        for one in brought
    }
    model = args.model or await default_model(settings)
    note(f"model: {model}" if model else "no model of its own: requests have to name one")
    with until_stopped() as stopping:
        await attach(
            args.bus, brought, caps, settings, stopping, slots=args.agents, model=model, name=args.name, announce=note
        )
    return 0
