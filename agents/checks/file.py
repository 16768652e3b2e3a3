"""`file: report.md`: it is there and not empty."""

import asyncio
from typing import ClassVar

from agents.check import CheckContext, Verdict
from agents.checking import criteria
from agents.errors import ToolFailed
from bus.setup import Criterion


class FileCheck:
    """Looks whether a file is there and not empty."""

    key: ClassVar[str] = "file"
    runs_code: ClassVar[bool] = False

    def __init__(self, criterion: Criterion) -> None:
        criteria.known_keys(criterion, ("file",))
        self.path = criteria.path(criterion, "file")

    async def judge(self, context: CheckContext) -> Verdict:
        """Look at its size."""
        try:
            size = await asyncio.to_thread(context.folder.size, self.path)
        except ToolFailed as error:
            return Verdict("fails", criteria.cut(str(error)), (self.path,))
        if not size:
            return Verdict("fails", f"{self.path!r} is empty.", (self.path,))
        return Verdict("holds", f"{self.path!r} is there ({size:,} bytes).", (self.path,))
