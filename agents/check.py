"""Contract: does this hold, and what shows it.

A check is one entry of `accept`, known by the one of its keys that names a check: `file`, `text`, `json`, `run` or
`ask`. Checks that read are judged by looking at the folder; `run` needs the sandbox; `ask` is the critic's model and is
not made here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

from agents.files.project_folder import ProjectFolder
from agents.sandbox import Sandbox
from bus.setup import Criterion


@dataclass(frozen=True, slots=True)
class Verdict:
    """`broken`: the check itself could not be made (no sandbox, missing module), which is no rejection.

    `shows`: one to a few lines a person and a model can act on. `named`: files it is about.
    """

    verdict: Literal["holds", "fails", "broken"]
    """What came of it."""
    shows: str
    named: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CheckContext:
    """What a check may use."""

    folder: ProjectFolder
    sandbox: Sandbox | None = None
    env: Mapping[str, str] | None = None


class Check(Protocol):
    """One kind of check, made from its criterion."""

    key: ClassVar[str]
    runs_code: ClassVar[bool]

    def __init__(self, criterion: Criterion) -> None:
        """Raise `BadCriterion` naming the field at fault."""

    async def judge(self, context: CheckContext) -> Verdict:
        """Look, and say. A fault of the thing checked is a verdict, never an exception."""
        ...
