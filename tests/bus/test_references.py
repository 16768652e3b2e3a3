"""Which files events name: all of them where a run moves, and all that could be one where files are removed."""

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from bus.codec import encode
from bus.envelope import Envelope
from bus.errors import Damaged
from bus.events import EVENTS, GoalSubmitted
from bus.references import files_of, hashes_in, unnamed
from bus.setup import FileRef, RoleSetup, Setup
from bus.store import memory_store
from tests.support.events import OWNER, envelopes, record

ONE, TWO = "1" * 64, "ab" * 32


def written(value: Any) -> list[tuple[str, str | None]]:
    """Return path and hash of whatever looks like a file in what is written."""
    if isinstance(value, dict):
        if value.keys() in ({"path", "sha256", "bytes"}, {"path", "sha256", "bytes", "base"}):
            return [(value["path"], value["sha256"])]
        return [found for each in value.values() for found in written(each)]
    return [found for each in value for found in written(each)] if isinstance(value, list) else []


@given(envelopes())
@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])
def test_every_file_of_every_event_is_found(envelope: Envelope) -> None:
    found = [(file.path, file.sha256) for file in files_of(envelope.event)]
    assert found == written(json.loads(encode(envelope))["data"])


def test_the_events_of_these_tests_do_name_files() -> None:
    naming = {name for name, kind in EVENTS.items() if "sha256" in json.dumps(kind.model_json_schema())}
    assert naming >= {"GoalSubmitted", "GoalAccepted", "ResultSubmitted", "FilesMerged", "ToolReturned"}


@pytest.mark.parametrize(
    ("line", "found"),
    [
        (f'{{"sha256":"{ONE}"}}', {ONE}),
        (f'{{"base":"{ONE}","of an event to come":["{TWO}"]}}', {ONE, TWO}),
        (f'{{"a":"\\u00e4","b":[{{"c":"{ONE}"}},"\\u0031{ONE[1:]}"]}}', {ONE}),
        (f'{{"a":"{ONE}1","b":"x{ONE}","c":"{ONE.upper()}","d":"{TWO.upper()}","e":"said: {ONE}"}}', {ONE}),
        ('{"a":1}', set()),
    ],
)
def test_whatever_could_be_a_hash_is_found_in_any_line(line: str, found: set[str]) -> None:
    assert hashes_in(line.encode()) == found


def test_a_line_that_cannot_be_read_ends_the_search() -> None:
    with pytest.raises(Damaged, match="cannot be read"):
        hashes_in(b'{"a":"\\u00')


async def test_what_no_log_names_is_listed_with_its_size() -> None:
    async with memory_store() as store:
        named, _ = await store.files.put(b"named"), await store.files.put(b"not named")
        setup = Setup(name="s", goal="g", roles={"coder": RoleSetup(model="m")})
        begun = GoalSubmitted(setup=setup, workspace=(FileRef(path="a", sha256=named, bytes=5),))
        epoch = await store.log.create("run", OWNER)
        await store.log.append("run", 0, epoch, [record(1, begun)])
        assert list((await unnamed(store)).values()) == [9]
        await store.log.remove("run", previous=OWNER)
        assert sorted((await unnamed(store)).values()) == [5, 9]
