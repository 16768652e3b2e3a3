"""Which files an event names: exactly, for who takes a run elsewhere; generously, for who removes what none names."""

import re
from collections.abc import Iterator, Mapping

from pydantic import BaseModel
from pydantic_core import from_json

from bus.errors import Damaged
from bus.setup import FileChange, FileRef
from bus.store import Store

_HASH = re.compile(rb'"([0-9a-f]{64})"')
_WHOLE_HASH = re.compile(r"[0-9a-f]{64}")


def files_of(value: object) -> Iterator[FileRef | FileChange]:
    """Yield the files that an event, or a value in it, names."""
    if isinstance(value, FileRef | FileChange):
        yield value
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from files_of(getattr(value, name))
    elif isinstance(value, tuple):
        for each in value:
            yield from files_of(each)


def hashes_in(line: bytes) -> set[str]:
    """Return whatever in a line of a log could be a file's hash, also where we do not know the event.

    Raises `Damaged` for a line that cannot be read.
    """
    if b"\\u" not in line:  # written out, as we do, a hash is found without reading the line
        return {match.decode() for match in _HASH.findall(line)}
    try:
        return set(_hashes(from_json(line)))
    except ValueError as error:
        raise Damaged(f"an event in the log cannot be read: {error}") from error


def _hashes(value: object) -> Iterator[str]:
    if isinstance(value, str):
        if _WHOLE_HASH.fullmatch(value):
            yield value
    elif isinstance(value, dict):
        for each in value.values():
            yield from _hashes(each)
    elif isinstance(value, list):
        for each in value:
            yield from _hashes(each)


async def unnamed(store: Store) -> Mapping[str, int]:
    """Return the files that no event names, with their sizes. Raises `Damaged`.

    Only where nobody else is writing (`FileStore.alone`) are they nobody's: a run stores a file before it names it.
    """
    sizes = dict(await store.files.sizes())
    async for line in store.log.all_lines():
        for sha256 in hashes_in(line):
            sizes.pop(sha256, None)
    return sizes
