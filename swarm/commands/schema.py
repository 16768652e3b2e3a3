"""Print the JSON Schema of scenario files, for editors and other programs."""

import argparse

SUMMARY = "print the JSON Schema of scenario files"
EXAMPLES = """\
  swarm schema > scenario.schema.json
  # then, as the first line of a scenario, for editors that use yaml-language-server:
  # yaml-language-server: $schema=./scenario.schema.json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add nothing: the command has no options."""


def run(_: argparse.Namespace) -> int:
    """Carry the command out."""
    import json  # noqa: PLC0415 - loads only where it is used

    from swarm.scenario.model import schema  # noqa: PLC0415 - likewise
    from swarm.views.terminal import say  # noqa: PLC0415 - likewise

    say(json.dumps(schema(), indent=2, ensure_ascii=False))
    return 0
