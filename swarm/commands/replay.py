"""Go through a run again: every role over its recorded answers, the rules over what came in. Say what differs first.

No model is asked, no tool run, no clock read, nothing sent. The run's own roles are run: where its log
was written elsewhere, all code that it names is asked for first. Exit status 0 if all is as the log has it, 1 if not.
"""

import argparse

SUMMARY = "go through a run again, and compare"
EXAMPLES = """\
  swarm replay last
  swarm replay brief-20260101-1a2b3c --json
  SWARM_STORE=postgresql://swarm@db.example/swarm swarm replay last --config hub.yaml
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what only this command takes."""
    parser.add_argument("run", metavar="RUN", help="a run's id, a unique beginning of it, or `last`")
    parser.add_argument("--trust", action="store_true", help="do not ask about code that a log from elsewhere names")
    parser.add_argument("--config", metavar="FILE", help="of the hub that ran it: where tools are that it gave names")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Carry the command out."""
    import asyncio  # noqa: PLC0415 - loads only where it is used

    return asyncio.run(_replay(args))


async def _replay(args: argparse.Namespace) -> int:
    import json  # noqa: PLC0415 - loads only where it is used
    import os  # noqa: PLC0415 - likewise
    import sys  # noqa: PLC0415 - likewise
    import tempfile  # noqa: PLC0415 - likewise
    from dataclasses import asdict  # noqa: PLC0415 - likewise
    from pathlib import Path  # noqa: PLC0415 - likewise

    from swarm.commands.consent import consent_to_log  # noqa: PLC0415 - likewise
    from swarm.hubs.hub_config import HubConfig  # noqa: PLC0415 - likewise
    from swarm.replay import replay  # noqa: PLC0415 - likewise
    from swarm.runs import finding  # noqa: PLC0415 - likewise
    from swarm.runs.folding import fewer_collections  # noqa: PLC0415 - likewise
    from swarm.runs.named_code import from_elsewhere  # noqa: PLC0415 - likewise
    from swarm.settings import read_settings  # noqa: PLC0415 - likewise
    from swarm.views.terminal import say, say_json, shown  # noqa: PLC0415 - likewise

    tools = HubConfig.load(args.config).tools if args.config else {}
    settings = read_settings(os.environ)
    async with finding.reading(settings) as store:
        info = await finding.find(store, args.run)
        named = await from_elsewhere(store, info, tools)
        can_ask = sys.stdin.isatty() and sys.stderr.isatty() and not args.json
        await consent_to_log(info.run, named, given=args.trust, can_ask=can_ask)
        with tempfile.TemporaryDirectory(prefix="replay-") as place, fewer_collections():
            log = store.log.read(info.run)
            found = await replay(info.run, log, store.files, Path(place), tools=tools, closed=settings.closed)
    if args.json:
        say_json(json.dumps({"ok": found.difference is None, **asdict(found)}, ensure_ascii=False))
    elif found.difference is None:
        say(f"{found.run}: {found.events} events and {found.attempts} attempts of roles, all as the log has them")
        if found.elsewhere:
            say(f"  not gone through, since their code is with their agents: {', '.join(map(shown, found.elsewhere))}")
    else:
        say("\n".join([f"{found.run} differs", *(f"  {shown(line)}" for line in found.difference.lines())]))
    return 0 if found.difference is None else 1
