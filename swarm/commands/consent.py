"""Whether a scenario, or a log, may act for this person with what it names: asked once a hash."""

from collections.abc import Iterable, Sequence

from swarm.commands.asking import says_yes
from swarm.commands.granted import named, said
from swarm.commands.shipped import is_shipped
from swarm.errors import UsageError
from swarm.runs.named_code import NamedCode, hash_of
from swarm.scenario.may import may
from swarm.scenario.model import Scenario
from swarm.scenario.trust import content_hash, is_trusted, trust
from swarm.views.terminal import note

_WHY = "brings code or servers of its own, or reads files from outside of its folder"
_WHY_LOG = "was written elsewhere, at least in part, and its log names code that would be run"


async def consent(scenario: Scenario, *, given: bool, can_ask: bool) -> None:
    """Return if the scenario may act. `given`: the person said `--trust`.

    Raises `UsageError` where the person says no, or cannot be asked.
    """
    digest = content_hash(scenario)
    if digest is None or given or (scenario.file and is_shipped(scenario.file)) or _known(digest):
        return
    if not can_ask:
        raise UsageError(
            f"{scenario.name} {_WHY}, and nobody is here to ask whether that is trusted. "
            "Look at it (`swarm check` shows what it may do), then say it again with --trust."
        )
    await _ask(scenario.name, digest, f"{_WHY}. It may", said(may(scenario)))


async def consent_to_log(run: str, code: Sequence[NamedCode], *, given: bool, can_ask: bool) -> None:
    """Return if the code that a run's log names may be run. `given`: the person said `--trust`.

    Raises `UsageError` where the person says no, or cannot be asked; `CodeFault` where there is no such code.
    """
    if not code or given or _known(digest := hash_of(code)):
        return
    if not can_ask:
        raise UsageError(
            f"{run} {_WHY_LOG} ({'; '.join(map(named, code))}), and nobody is here to ask whether that is trusted. "
            "Look at it, then say it again with --trust."
        )
    await _ask(run, digest, _WHY_LOG, map(named, code))


async def _ask(name: str, digest: str, why: str, lines: Iterable[str]) -> None:
    note(f"{name} {why}:")
    for line in lines:
        note(f"  {line}")
    if not await says_yes("Trust exactly this, now and later?"):
        raise UsageError("not trusted; nothing was run.")
    try:
        trust(digest, name)
    except (OSError, RuntimeError) as error:
        note(f"(This could not be remembered: {error}. It counts for this run.)")


def _known(digest: str) -> bool:
    try:
        return is_trusted(digest)
    except RuntimeError:  # no home directory, so nothing was ever remembered
        return False
