"""Say what works here, and what to do about the rest. Exit status 3 where something that a run needs is missing."""

import argparse
from typing import TYPE_CHECKING

from swarm.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from swarm.diagnosis import Diagnosis
    from swarm.settings import Settings

SUMMARY = "say what works here, and the remedy"
EXAMPLES = """\
  swarm doctor
  swarm doctor models
  swarm doctor sandbox
  swarm doctor bus --bus mqtt://127.0.0.1
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what only this command takes."""
    parser.add_argument("part", choices=["models", "sandbox", "bus"], nargs="?", help="look at this only")
    parser.add_argument("--bus", metavar="URL", help="the broker that `bus` looks at, as the user that is named there")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Carry the command out."""
    import asyncio  # noqa: PLC0415 - loads only where it is used

    if (args.part == "bus") != (args.bus is not None):
        raise UsageError("`swarm doctor bus` and `--bus URL` go together: swarm doctor bus --bus mqtt://127.0.0.1")
    return asyncio.run(_doctor(args.part, args.bus, as_json=args.json))


async def _doctor(part: str | None, bus: str | None, *, as_json: bool) -> int:
    import json  # noqa: PLC0415 - loads only where it is used
    import os  # noqa: PLC0415 - likewise
    import sys  # noqa: PLC0415 - likewise

    from swarm.commands.failures import MISSING  # noqa: PLC0415 - likewise
    from swarm.settings import read_settings  # noqa: PLC0415 - likewise
    from swarm.views.terminal import has_colour, paint, say, say_json, shown  # noqa: PLC0415 - likewise

    settings = read_settings(os.environ)
    parts: dict[str, list[Diagnosis]] = {}
    if bus is not None:
        parts["bus"] = [diagnosis async for diagnosis in _bus(bus)]
    if part in {None, "models"}:
        parts["models"] = [diagnosis async for diagnosis in _models(settings)]
    if part in {None, "sandbox"}:
        parts["sandbox"] = [diagnosis async for diagnosis in _sandboxes()]
    if part is None:
        parts["state"] = [diagnosis async for diagnosis in _state(settings)]
    enough = {"bus": all, "state": all}  # of models and sandboxes one will do
    good = all(enough.get(name, any)(diagnosis.good for diagnosis in diagnoses) for name, diagnoses in parts.items())
    if as_json:
        found = {name: [diagnosis._asdict() for diagnosis in diagnoses] for name, diagnoses in parts.items()}
        say_json(json.dumps({"ok": good, **found}, ensure_ascii=False))
        return 0 if good else MISSING
    colour = has_colour(sys.stdout)
    for name, diagnoses in parts.items():
        say(f"{name} (one is enough)" if len(diagnoses) > 1 and name not in enough else name)
        for diagnosis in diagnoses:
            mark = paint("ok ", "green", colour=colour) if diagnosis.good else paint("no ", "yellow", colour=colour)
            say(f"  {mark} {diagnosis.what}: {shown(diagnosis.told)}")
            if diagnosis.remedy and not diagnosis.good:
                say(f"      {paint(shown(diagnosis.remedy), 'cyan', colour=colour)}")
    return 0 if good else MISSING


async def _bus(url: str) -> "AsyncIterator[Diagnosis]":
    import os  # noqa: PLC0415 - loads only where it is used

    from swarm.brokers.bus_doctor import look_at_bus  # noqa: PLC0415 - likewise

    async for diagnosis in look_at_bus(url, os.environ):
        yield diagnosis


async def _models(settings: "Settings") -> "AsyncIterator[Diagnosis]":
    from swarm.diagnosis import Diagnosis  # noqa: PLC0415 - loads only where it is used
    from swarm.preparation.model_choice import look  # noqa: PLC0415 - likewise

    if settings.model:
        yield Diagnosis(
            "SWARM_MODEL", good=True, told=f"{settings.model}, for all roles that nothing else names one for"
        )
    async for found in look(settings):
        told = f"{found.choice.model} ({found.choice.why})" if found.choice else found.told
        yield Diagnosis(found.place, found.choice is not None, told, found.remedy)


async def _sandboxes() -> "AsyncIterator[Diagnosis]":
    from typing import Any, cast  # noqa: PLC0415 - loads only where it is used

    from agents.errors import SandboxUnavailable  # noqa: PLC0415 - likewise
    from agents.sandboxes import SANDBOXES  # noqa: PLC0415 - likewise
    from bus import lookup  # noqa: PLC0415 - likewise
    from swarm.diagnosis import Diagnosis  # noqa: PLC0415 - likewise

    for name in SANDBOXES:
        try:
            await cast("Any", lookup.load(name, SANDBOXES))().probe()
        except SandboxUnavailable as error:
            yield Diagnosis(name, good=False, told=error.reason, remedy=error.remedy)
        else:
            yield Diagnosis(name, good=True, told="shuts programs in: no network, no files but their own")


async def _state(settings: "Settings") -> "AsyncIterator[Diagnosis]":
    import os  # noqa: PLC0415 - loads only where it is used

    from bus.errors import BusError, NotFound  # noqa: PLC0415 - likewise
    from bus.store import open_store  # noqa: PLC0415 - likewise
    from swarm.diagnosis import Diagnosis  # noqa: PLC0415 - likewise

    home = settings.home.absolute()
    there = next((place for place in (home, *home.parents) if place.exists()), home)
    if there.is_dir() and os.access(there, os.W_OK | os.X_OK):
        yield Diagnosis("SWARM_HOME", good=True, told=f"{home} can be written")
    else:
        remedy = "export SWARM_HOME=/a/folder/of/yours"
        yield Diagnosis("SWARM_HOME", good=False, told=f"{home} cannot be written", remedy=remedy)
    if settings.store is None:
        return
    try:
        async with open_store(settings.store, read_only=True):
            yield Diagnosis("SWARM_STORE", good=True, told="the server answers, and has runs")
    except NotFound:
        yield Diagnosis("SWARM_STORE", good=True, told="the server answers; nothing has been run there yet")
    except BusError as error:
        yield Diagnosis("SWARM_STORE", good=False, told=str(error), remedy="docs/deploy.md says how it is set up")
