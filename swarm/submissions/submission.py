"""A scenario on its way to a hub: what is said, as a value of JSON."""

from collections.abc import Sequence
from typing import Self

import orjson
from pydantic import JsonValue, ValidationError
from pydantic_core import PydanticSerializationError, to_json

from bus.setup import FileRef, Value
from swarm.errors import Fault, ScenarioError, cut

MOST_BYTES = 6 * 1_048_576
"""Of a whole submission as JSON: a scenario, its texts, and ten thousand names of files with their hashes."""


MOST_FAULTS = 50
"""So many are told of one submission: each costs more than the value that it is about."""


class Submission(Value):
    """A scenario with all that a hub needs to run it; a value of JSON."""

    run: str
    """The id of the run: two hubs that get it begin one run."""
    written: dict[str, JsonValue]
    """The scenario's own mapping, changed by what the command line said."""
    inputs: dict[str, str] = {}
    models: tuple[str, ...] = ()
    """As given by `--model`: `M` or `ROLE=M`."""
    files: tuple[FileRef, ...] = ()
    """The workspace; the bytes are fetched by their hash."""
    texts: dict[str, str] = {}
    """The prompts and schemas that the scenario has in files, by their path beside it."""
    client: str = ""
    """Who submits, `user/instance`; the hub puts in whom the topic names."""

    def on_wire(self) -> dict[str, object]:
        """Return it as an object that `orjson.dumps` writes."""
        return {name: orjson.Fragment(to_json(getattr(self, name))) for name in type(self).model_fields}

    @classmethod
    def read(cls, value: object) -> Self:
        """Return what a parsed JSON object holds. Raises `ScenarioError` with the first faults of its shape."""
        if isinstance(value, cls):
            return value
        try:
            written = to_json(value)
            if len(written) > MOST_BYTES:
                raise ScenarioError([Fault("value", f"a submission has at most {MOST_BYTES:,} bytes")])
            return cls.model_validate_json(written, strict=True)
        except ValidationError as error:
            found = error.errors(include_url=False, include_context=False, include_input=False)
            raise ScenarioError(
                [Fault("type", one["msg"], field=_field(one["loc"])) for one in found[:MOST_FAULTS]]
            ) from error
        except (PydanticSerializationError, ValueError) as error:  # nested too deeply, half a surrogate pair
            raise ScenarioError([Fault("value", f"this is no submission: {error}")]) from error


def _field(location: Sequence[str | int]) -> str:
    return cut(".".join(map(str, location)), 100)
