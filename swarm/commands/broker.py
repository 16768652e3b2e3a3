"""Run a broker for a try on this machine: mosquitto, for 127.0.0.1 alone, without login, with nothing kept.

It ends with Ctrl-C, and all that it held is gone then; what hubs recorded is in their log. The address is printed on
standard output, what the broker reports on standard error. For other machines see docs/deploy.md.
"""

import argparse

SUMMARY = "run a broker for a try on this machine"
EXAMPLES = """\
  swarm broker
  swarm broker --port 1999
"""
_HIGHEST = 65_535


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what only this command takes."""
    parser.add_argument("--port", type=_port, default=1883, metavar="N", help="by default 1883")


def run(args: argparse.Namespace) -> int:
    """Carry the command out."""
    import asyncio  # noqa: PLC0415 - loads only where it is used

    return asyncio.run(_serve(args.port))


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= _HIGHEST:
        raise argparse.ArgumentTypeError(f"{text!r} is no port: 1 to {_HIGHEST}")
    return int(text)


async def _serve(port: int) -> int:
    import sys  # noqa: PLC0415 - loads only where it is used

    from swarm.brokers.quick_broker import quick_broker  # noqa: PLC0415 - likewise
    from swarm.errors import MissingPart  # noqa: PLC0415 - likewise
    from swarm.views.terminal import note, say, shown  # noqa: PLC0415 - likewise

    async with quick_broker(port) as broker:
        say(broker.url)
        sys.stdout.flush()
        note(f"mosquitto {broker.version}, for this machine alone: no login, nothing is kept. Ctrl-C ends it.")
        async for line in broker.lines():
            note(shown(line))
    raise MissingPart("the broker ended by itself.", "What it reported last stands above.")
