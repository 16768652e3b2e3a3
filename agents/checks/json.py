"""`json: prices.json`: it is JSON, and fits a JSON schema: a given one, or one that another file of the tree holds."""

import asyncio
import json
from typing import ClassVar, NoReturn

from pydantic import JsonValue

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
        self.schema = _schema(criterion)

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
        schema: object = self.schema
        named, files = "its schema", tuple[str, ...]()
        if isinstance(self.schema, str):
            named, files = repr(self.schema), (self.schema,)
            try:
                schema = _parsed(folder, self.schema)
            except ToolFailed as error:
                return Verdict("broken", criteria.cut(f"The schema cannot be read. {error}"), files)
        unusable, faults = json_schema.check(schema, instance)
        if unusable:
            return Verdict(
                "broken", criteria.cut(f"{self.path!r}: {named} cannot be used: {'; '.join(unusable)}."), files
            )
        if faults:
            return Verdict(
                "fails", criteria.cut(f"{self.path!r} does not fit {named}: {'; '.join(faults)}."), (self.path,)
            )
        return Verdict("holds", f"{self.path!r} fits {named}.", (self.path,))


def _schema(criterion: Criterion) -> JsonValue:
    """Return a schema, or the path of one in the tree; None where none is wanted."""
    schema = criterion.get("schema")
    if "schema" not in criterion or isinstance(schema, dict | bool):
        return schema
    return criteria.path(criterion, "schema")


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
