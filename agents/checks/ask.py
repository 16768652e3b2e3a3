"""`ask: Every price stands in the material.`: a question for the critic's model."""

from typing import ClassVar

from agents.check import CheckContext, Verdict
from agents.checking import criteria
from bus.setup import Criterion


class AskCheck:
    """A statement that the critic's model judges; the critic reads `statement`, and judges it itself."""

    key: ClassVar[str] = "ask"
    runs_code: ClassVar[bool] = False

    def __init__(self, criterion: Criterion) -> None:
        criteria.known_keys(criterion, ("ask",))
        self.statement = criteria.text(criterion, "ask")

    async def judge(self, context: CheckContext) -> Verdict:
        """Say that it cannot be judged by looking."""
        del context
        return Verdict("broken", "This is for the critic's model to judge, not for a program.")
