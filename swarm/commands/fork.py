"""Begin another future of a run, from one of its events: with another goal, model, limit or role from there on.

Both runs share the past up to that event; nothing of it is paid for again, and what the first run did afterwards is not
used. An attempt that was under way goes on over what it had done, as long as it asks for the same. Where its first
different request stands, life begins: what it had done after that does not count for it any more. So a fork with
another model may ask again what an attempt that is still open had been answered already.

The files that the run began with, and its prompts, are as they were recorded: neither the scenario nor its folder needs
to be there. A prompt's file is read again where --set roles.ROLE.prompt=./FILE names it. Code has to be there.
"""

import argparse
import os
import sys
from dataclasses import replace
from pathlib import Path

from swarm.commands.arguments import new_folder, position
from swarm.views.terminal import note

SUMMARY = "begin another future of a run"
EXAMPLES = """\
  swarm fork last --at 40
  swarm fork last --at 40 --model openai:gpt-5-mini
  swarm fork brief-20260101-1a2b3c --at 12 --goal "Write it for children." --set limits.tokens=400k
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what only this command takes."""
    parser.add_argument("run", metavar="RUN", help="a run's id, a unique beginning of it, or `last`")
    parser.add_argument("--at", metavar="N", type=position, help="the last event of the past; by default all of it")
    parser.add_argument("--goal", metavar="TEXT", help="another goal")
    parser.add_argument(
        "--set",
        metavar="PATH=VALUE",
        action="append",
        default=[],
        help="change the scenario; not plan, workspace",
    )
    parser.add_argument(
        "--model", metavar="[ROLE=]MODEL", action="append", default=[], help="provider:name, for all roles or for one"
    )
    parser.add_argument("--out", metavar="DIR", help="folder for the files; by default ./RUN")
    parser.add_argument("--trust", action="store_true", help="do not ask about the scenario's code, servers and files")
    parser.add_argument("--json", action="store_true", help="print one JSON object at the end, nothing else")
    parser.add_argument("--quiet", action="store_true", help="show no progress, only the outcome")


def run(args: argparse.Namespace) -> int:
    """Carry the command out."""
    out = new_folder(args.out, "--out") if args.out else None

    from swarm.commands.watching import stoppable  # noqa: PLC0415 - loads what runs agents

    return stoppable(lambda: _fork(args, out), told="Stopped before the run began; nothing was recorded.")


async def _fork(args: argparse.Namespace, out: Path | None) -> int:
    from swarm.commands.choices import chosen_lines  # noqa: PLC0415 - likewise
    from swarm.commands.consent import consent  # noqa: PLC0415 - likewise
    from swarm.commands.watching import watched  # noqa: PLC0415 - likewise
    from swarm.fork import Changes, fork, past_of  # noqa: PLC0415 - likewise
    from swarm.preparation import preparing  # noqa: PLC0415 - loads what runs agents
    from swarm.runs import finding  # noqa: PLC0415 - loads what runs agents
    from swarm.settings import read_settings  # noqa: PLC0415 - likewise

    async with finding.reading(read_settings(os.environ)) as store:
        past = await past_of(store, args.run, args.at)
    changes = Changes(args.goal, tuple(args.set), tuple(args.model))
    scenario = past.scenario(changes)
    settings = read_settings(os.environ, scenario.folder)
    await consent(scenario, given=args.trust, can_ask=sys.stdin.isatty() and sys.stderr.isatty() and not args.json)
    models = past.models(changes)
    ready = await preparing.prepare(scenario, settings, models=models)
    if not (args.quiet or args.json):
        kept = {*models} - {*changes.models}
        for line in chosen_lines(
            {
                role: replace(choice, why=f"as in {past.run}") if f"{role}={choice.model}" in kept else choice
                for role, choice in ready.choices.items()
            }
        ):
            note(line)
    return await watched(
        args,
        settings,
        lambda watch: fork(past, ready, changes, settings, out=out, **watch._asdict()),
    )
