"""Whether a scenario may act for this person with the code, servers and files that it names: asked once a hash."""

from swarm.commands.asking import says_yes
from swarm.commands.granted import said
from swarm.commands.shipped import is_shipped
from swarm.errors import UsageError
from swarm.scenario.may import may
from swarm.scenario.model import Scenario
from swarm.scenario.trust import content_hash, is_trusted, trust
from swarm.views.terminal import note

_WHY = "brings code or servers of its own, or reads files from outside of its folder"


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
    note(f"{scenario.name} {_WHY}. It may:")
    for line in said(may(scenario)):
        note(f"  {line}")
    if not await says_yes("Trust exactly this, now and later?"):
        raise UsageError("not trusted; nothing was run.")
    try:
        trust(digest, scenario.name)
    except (OSError, RuntimeError) as error:
        note(f"(This could not be remembered: {error}. It counts for this run.)")


def _known(digest: str) -> bool:
    try:
        return is_trusted(digest)
    except RuntimeError:  # no home directory, so nothing was ever remembered
        return False
