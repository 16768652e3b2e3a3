"""Ask for the key of a model endpoint, check it there, and keep it for all runs of this user.

It is kept in eventswarm/env below $XDG_CONFIG_HOME (by default ~/.config), readable by this user alone. The
environment, and a `.env` beside a scenario, go before it.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

from swarm.errors import MissingPart, UsageError

SUMMARY = "keep the key of a model endpoint"
EXAMPLES = """\
  swarm setup
  swarm setup --url https://lab.example/v1
  swarm setup < key.txt
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what only this command takes."""
    parser.add_argument("--url", metavar="URL", help="base address of the endpoint; by default OpenAI's own")


def run(args: argparse.Namespace) -> int:
    """Carry the command out."""
    import asyncio  # noqa: PLC0415 - loads only where it is used

    from swarm.settings import config_folder  # noqa: PLC0415 - likewise
    from swarm.views.terminal import say  # noqa: PLC0415 - likewise

    folder = config_folder(os.environ)
    if folder is None:
        raise MissingPart("there is no home directory to keep a key in.", "Set HOME or XDG_CONFIG_HOME.")
    key = _asked()
    count = asyncio.run(_models(args.url, key))
    place = _keep(folder / "env", args.url, key)
    say(f"The key works ({count} models) and is kept in {place}, for you alone.")
    return 0


def _asked() -> str:
    from swarm.commands.asking import secret  # noqa: PLC0415 - loads only where it is used

    key = secret("Key (it is not shown): ") if sys.stdin.isatty() else sys.stdin.readline().strip()
    if not key:
        raise UsageError("no key was given; nothing was changed.")
    if not key.isascii() or not key.isprintable() or set(key) & set(" '\"\\"):
        raise UsageError("this is no key: it has spaces, quotes or other characters that keys never have.")
    return key


async def _models(url: str | None, key: str) -> int:
    """Return how many models the endpoint lists for this key. Raises `ModelUnavailable`."""
    from agents.completions.endpoint import shared_endpoint  # noqa: PLC0415 - loads only where it is used
    from agents.errors import ModelUnavailable  # noqa: PLC0415 - likewise
    from agents.model import TryFailed  # noqa: PLC0415 - likewise

    endpoint = shared_endpoint(url or "https://api.openai.com/v1", key, key_name="OPENAI_API_KEY")
    try:
        return len(await endpoint.models())
    except TryFailed as error:
        raise ModelUnavailable(f"the key was not kept: {error}", error.remedy) from error
    finally:
        await endpoint.close()


def _keep(path: Path, url: str | None, key: str) -> Path:
    """Write the file whole, never readable by others, in place of an earlier one."""
    lines = [f"OPENAI_API_KEY='{key}'", *([f"OPENAI_BASE_URL='{url}'"] if url else [])]
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=".env-", dir=path.parent)  # made 0600
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write("\n".join([*lines, ""]))
        Path(name).replace(path)
    except OSError as error:
        raise MissingPart(f"{path} cannot be written: {error.strerror}.") from error
    return path
