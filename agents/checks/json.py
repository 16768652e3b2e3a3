"""`json: prices.json`: it is JSON, and fits the JSON schema that another file of the tree holds."""

import asyncio
import json
from typing import ClassVar, NoReturn

from agents.check import CheckContext, Verdict
from agents.checking import criteria, json_schema
from agents.errors import ToolFailed
from agents.files.project_folder import ProjectFolder
from bus.setup import Criterion


class JsonCheck:
    """Reads a JSON file, and compares it with its schema; which keywords: `agents/checking/json_schema.py`."""

    key: ClassVar[str] = "json"
    runs_code: ClassVar[bool] = False

    def __init__(self, criterion: Criterion) -> None:
        criteria.known_keys(criterion, ("json", "schema"))
        self.path = criteria.path(criterion, "json")
        self.schema = criteria.path(criterion, "schema") if "schema" in criterion else None

    async def judge(self, context: CheckContext) -> Verdict:
        """Read both; a schema that cannot be used is no fault of the file."""
        return await asyncio.to_thread(self._judge, context.folder)

    def _judge(self, folder: ProjectFolder) -> Verdict:
        try:
            instance = _parsed(folder, self.path)
        except ToolFailed as error:
            return Verdict("fails", criteria.cut(str(error)), (self.path,))
        if self.schema is None:
            return Verdict("holds", f"{self.path!r} is JSON.", (self.path,))
        try:
            schema = _parsed(folder, self.schema)
        except ToolFailed as error:
            return Verdict("broken", criteria.cut(f"The schema cannot be read. {error}"), (self.schema,))
        unusable, faults = json_schema.check(schema, instance)
        if unusable:
            return Verdict(
                "broken", criteria.cut(f"The schema {self.schema!r}: {'; '.join(unusable)}."), (self.schema,)
            )
        if faults:
            return Verdict(
                "fails", criteria.cut(f"{self.path!r} does not fit {self.schema!r}: {'; '.join(faults)}."), (self.path,)
            )
        return Verdict("holds", f"{self.path!r} fits {self.schema!r}.", (self.path,))


def _parsed(folder: ProjectFolder, path: str) -> object:
    try:
        parsed: object = json.loads(folder.read(path).decode("utf-8-sig"), parse_constant=_no_json)
    except RecursionError as error:
        raise ToolFailed(f"{path!r} is nested too deeply.") from error
    except ValueError as error:  # no UTF-8, no JSON, a number of too many digits
        raise ToolFailed(f"{path!r} is no JSON: {error}.") from error
    return parsed


def _no_json(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number of JSON")
