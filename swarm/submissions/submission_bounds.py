"""How much a submission may hold, and which names may stand in it: all that is no matter of the scenario itself."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping

from pydantic_core import to_json

from agents.files import names
from bus import topics
from bus.setup import FileRef
from swarm.errors import Fault, cut, quote
from swarm.preparation import workspace
from swarm.scenario.source import MOST_BYTES as MOST_OF_A_SCENARIO
from swarm.submissions.refusals import model_fault, path_fault
from swarm.submissions.submission import Submission

MOST_OF_TEXTS = 1_048_576
LONGEST_RUN = 128
"""Characters of a run's id."""

MOST_PARTS = 64
"""Folders, and the name, in a file's path."""

_DIGEST = re.compile(r"[0-9a-f]{64}")


def faults_of(submission: Submission) -> list[Fault]:
    """Return what is wrong with a submission beside its scenario."""
    return [*_names(submission), *_sizes(submission), *_models(submission), *_files(submission.files)]


def _names(submission: Submission) -> Iterator[Fault]:
    for field, value, check in (
        ("run", submission.run, topics.check_name),
        ("client", submission.client, topics.check_agent),
    ):
        try:
            if len(value) > LONGEST_RUN:
                yield Fault("value", f"{quote(value)} is longer than {LONGEST_RUN} characters", field=field)
            else:
                check(value)
        except ValueError as error:
            yield Fault("value", cut(str(error), 400), field=field)
    for name in submission.texts:
        if why := path_fault(name):
            yield Fault("refused", why, field="texts")


def _sizes(submission: Submission) -> Iterator[Fault]:
    try:
        size = len(to_json([submission.written, submission.inputs, submission.models]))
        texts = len(to_json(submission.texts))
    except ValueError as error:  # half a surrogate pair, such as the command line makes of what is not UTF-8
        yield Fault("value", f"it cannot be written as JSON: {cut(str(error), 200)}")
        return
    if size > MOST_OF_A_SCENARIO:
        message = f"with its inputs it has {size:,} bytes; a scenario has at most {MOST_OF_A_SCENARIO:,}"
        yield Fault("value", message, field="written")
    if texts > MOST_OF_TEXTS:
        yield Fault(
            "value", f"prompts and schemas have at most {MOST_OF_TEXTS:,} bytes together, not {texts:,}", field="texts"
        )


def _models(submission: Submission) -> Iterator[Fault]:
    for index, choice in enumerate(submission.models):
        role, equals, model = choice.partition("=")
        named = model if equals and ":" not in role else choice
        if why := model_fault(named):
            hint = "Name a model that the hub can reach, or none."
            yield Fault("refused", why, field=f"models.{index}", hint=hint)
        elif not all(named.partition(":")[::2]):
            yield Fault("value", f"{quote(named)} is no model; write provider:name", field=f"models.{index}")


def _files(files: tuple[FileRef, ...]) -> Iterator[Fault]:
    if len(files) > workspace.MOST_FILES or sum(max(0, one.bytes) for one in files) > workspace.MOST_BYTES:
        yield Fault("file", f"the workspace is {workspace.too_large()}", field="files")
        return
    times = Counter(one.path for one in files)
    beside = names.SideBySide(())
    for index, one in enumerate(files):
        if why := _path_fault(one.path, times, beside) or _content_fault(one):
            yield Fault("file", f"{quote(one.path)}: {why}", field=f"files.{index}")


def _path_fault(path: str, times: Mapping[str, int], beside: names.SideBySide) -> str | None:
    """Return why no file may lie at a path; `times`: how often each path is there."""
    parts = path.split("/")
    if len(parts) > MOST_PARTS:  # first, since it is looked for quickly
        return f"a path has at most {MOST_PARTS} parts"
    if never := next((part for part in parts if workspace.never_taken(part)), None):
        return f"{quote(never)} is never part of a workspace"
    if why := workspace.name_fault(path, beside):
        return why
    return "it is there twice" if times[path] > 1 else None


def _content_fault(one: FileRef) -> str | None:
    if not _DIGEST.fullmatch(one.sha256):
        return "its hash is no SHA-256 in hex"
    return "it has fewer bytes than none" if one.bytes < 0 else None
