"""`text: report.md`: a text, with bounds of its length, and what it should and should not contain."""

import asyncio
from typing import ClassVar

from agents.check import CheckContext, Verdict
from agents.checking import bounded, criteria, regex_search
from agents.errors import BadCriterion, ToolFailed
from bus.setup import Criterion


class TextCheck:
    """Reads a text and names all that is wrong with it.

    A needle is found as it is written; after `re:` it is a regular expression, `^` and `$` being those of a line.
    Words are what white space separates.
    """

    key: ClassVar[str] = "text"
    runs_code: ClassVar[bool] = False

    def __init__(self, criterion: Criterion) -> None:
        criteria.known_keys(criterion, ("text", "min_words", "max_words", "contains", "lacks"))
        self.path = criteria.path(criterion, "text")
        self.min_words = criteria.count(criterion, "min_words")
        self.max_words = criteria.count(criterion, "max_words")
        self.contains = criteria.texts(criterion, "contains")
        self.lacks = criteria.texts(criterion, "lacks")
        if self.max_words is not None and self.max_words < (self.min_words or 1):
            raise BadCriterion("'max_words' leaves no room for a text.", "max_words")

    async def judge(self, context: CheckContext) -> Verdict:
        """Read it, and name each fault."""
        try:
            text = (await asyncio.to_thread(context.folder.read, self.path)).decode("utf-8-sig")
            faults = await asyncio.to_thread(self._faults, text)
        except ToolFailed as error:
            return Verdict("fails", criteria.cut(str(error)), (self.path,))
        except UnicodeDecodeError as error:
            return Verdict("fails", f"{self.path!r} is no UTF-8 text (byte {error.start}).", (self.path,))
        except bounded.NoAnswer as error:
            return Verdict("broken", f"A regular expression for {self.path!r} is of no use here: {error}. Simplify it.")
        if faults:
            return Verdict("fails", criteria.cut(f"{self.path!r} {'; it '.join(faults)}."), (self.path,))
        return Verdict("holds", f"{self.path!r} has {len(text.split()):,} words, and what it should.", (self.path,))

    def _faults(self, text: str) -> list[str]:
        words = len(text.split())
        faults = []
        if words < (self.min_words or 1):
            faults.append(f"has {words:,} words, at least {self.min_words or 1:,} are wanted")
        if self.max_words is not None and words > self.max_words:
            faults.append(f"has {words:,} words, at most {self.max_words:,} are wanted")
        faults += [f"does not contain {needle!r}" for needle in self.contains if not _found(needle, text)]
        faults += [f"contains {needle!r}, which it should not" for needle in self.lacks if _found(needle, text)]
        return faults


def _found(needle: str, text: str) -> bool:
    text = regex_search.with_feeds(text, needle)
    if needle.startswith("re:"):
        return bool(regex_search.search(needle.removeprefix("re:"), [text], limit=1))
    return needle in text
