"""The JSON schemas of checks: one that lies beside the scenario is taken in, and stands in the check from then on.

An agent works in the project's files, and must not write what it is measured by: so what the author has beside the
scenario goes before a file of the same path there, and is recorded as prompts are.
"""

import itertools
import json
from collections.abc import Mapping
from pathlib import Path

from pydantic import JsonValue

from agents.checking.json_schema_form import schema_faults
from agents.errors import ToolRefused
from agents.files.names import parts_of
from swarm.errors import cut, quote
from swarm.scenario.draft import Draft, plain, text_name, tree_prefix
from swarm.scenario.plan import criteria_of
from swarm.scenario.rules import check_place
from swarm.scenario.source import FieldPath

MOST_BYTES = 65_536
"""Of one schema: it is recorded with each review."""
_FAULTS_SHOWN = 3


def schema_files(data: Mapping[str, JsonValue]) -> dict[FieldPath, str]:
    """Return the files that checks name as their schema, by where they are named."""
    named = {(*where, "schema"): one.get("schema") for where, one in criteria_of(data) if "json" in one}
    return {where: name for where, name in named.items() if isinstance(name, str) and _is_usable(name)}


def take_schemas_in(draft: Draft) -> None:
    """Put the schemas that lie beside the scenario in the place of their names; note those of no use or of nowhere."""
    files = schema_files(draft.data)
    for where, criterion in criteria_of(draft.data):
        path: FieldPath = (*where, "schema")
        if path not in files:
            if isinstance(written := criterion.get("schema"), dict):
                _note_what_is_wrong(draft, path, written, "the schema")
        elif (text := _text(draft, path, files[path])) is not None:
            schema = _parsed(draft, path, files[path], text)
            if schema is not None and not _note_what_is_wrong(draft, path, schema, quote(files[path])):
                criterion["schema"] = plain(draft, schema, path)


def _is_usable(name: str) -> bool:
    """Tell whether a check takes this for a path; if not, it says why."""
    try:
        return bool(parts_of(name)) and not name.endswith("/")
    except ToolRefused:
        return False


def _text(draft: Draft, path: FieldPath, name: str) -> str | None:
    """Return the text of a schema beside the scenario; None where there is none, or none that can be read."""
    around, file = draft.around, draft.folder / name
    if (sent := around.text(name)) is not None or not around.folder_here:
        return sent
    try:
        if not file.is_file():
            if not around.taken_in and not _may_come(draft, name):
                message = (
                    f"there is no {quote(name)} beside the scenario or in its workspace, and nothing here makes it"
                )
                hint = f"It is looked for in {draft.folder}. Where agents are to write it, say so in the goal."
                draft.fault("file", path, message, hint)
            return None
        check_place(draft, path, file)
        if file.stat().st_size > MOST_BYTES:
            draft.fault("file", path, f"{quote(name)} has more than {MOST_BYTES:,} bytes")
            return None
        text = draft.schemas[file] = file.read_text("utf-8-sig")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        draft.fault("file", path, f"{quote(name)} cannot be read: {reason}")
        return None
    return text


def _parsed(draft: Draft, path: FieldPath, name: str, text: str) -> JsonValue:
    """Return the schema that a text is; None where it is none."""
    try:
        schema: JsonValue = json.loads(text)
    except (ValueError, RecursionError) as error:
        draft.fault("criterion", path, f"{quote(name)} is no JSON: {cut(str(error), 200)}")
        return None
    if isinstance(schema, dict | bool):
        return schema
    draft.fault("criterion", path, f"{quote(name)} is no JSON schema, which is an object")
    return None


def _note_what_is_wrong(draft: Draft, path: FieldPath, schema: JsonValue, name: str) -> bool:
    """Note what no check could use, which would only show when all is paid for; tell whether there is any."""
    try:
        found = list(itertools.islice(schema_faults(schema, schema), _FAULTS_SHOWN))
    except RecursionError:
        found = ["it is nested too deeply"]
    if found:
        draft.fault("criterion", path, f"{name} cannot be used: {cut('; '.join(found), 400)}")
    return bool(found)


def _may_come(draft: Draft, name: str) -> bool:
    """Tell whether a file can be in the tree: of the workspace, or since agents are asked for it."""
    wanted = text_name(name)
    asked = (one.get(key) for _, one in criteria_of(draft.data) for key in ("file", "text", "json"))
    subtasks = draft.data.get("plan")
    told = [draft.data, *(one for one in (subtasks if isinstance(subtasks, list) else ()) if isinstance(one, dict))]
    return (
        any(isinstance(one, str) and text_name(one) == wanted for one in asked)
        or any(Path(wanted).name in str(one.get(key)) for one in told for key in ("goal", "do"))
        or _is_in_workspace(draft, wanted)
    )


def _is_in_workspace(draft: Draft, wanted: str) -> bool:
    written = draft.data.get("workspace")
    for one in written if isinstance(written, list) else [written]:
        if isinstance(one, str):
            source = draft.folder / one
            prefix = tree_prefix(source, one)
            if wanted == source.name and source.is_file():
                return True
            if wanted.startswith(prefix) and (source / wanted.removeprefix(prefix)).is_file():
                return True
    return False
