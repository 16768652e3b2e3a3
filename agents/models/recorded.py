"""A model that answers from a log of an earlier run: without network, key or cost, and strictly.

The file holds events as lines of JSON, as `swarm log RUN --json` prints them. A request that it does not know is an
error that shows the nearest one and the difference, and pauses the run there: a part is missing, an answer that nobody
has given. Were it the attempt's failure, the planner would be asked for another way, which nobody has answered either,
and that would be the reason that is told. `RecordedFirst` asks a live model then.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import cast

from agents.conversation.recording import Recording
from agents.errors import ModelUnavailable
from agents.model import EndpointHealth, Model, ModelPlace, ModelReply, ModelRequest, Prepared, TryFailed, TryKind
from bus.codec import decode
from bus.envelope import Envelope
from bus.errors import BadEnvelope, TooNew
from bus.events import ModelAnswered, ModelTryFailed

MOST_BYTES = 256 * 1024 * 1024


class Recorded:
    """Answers from the file `name`, found from `place.folder`; one object for all roles of a run."""

    def __init__(self, name: str, place: ModelPlace) -> None:
        self.health = EndpointHealth()
        self._path = place.folder / name
        self._recording = load(self._path)

    def pass_over(self, log: Iterable[Envelope]) -> None:
        """Go on behind the answers that a log was given."""
        self._recording.pass_over(log)

    async def ask(self, request: ModelRequest) -> ModelReply:
        """Answer as it was answered. Raises `TryFailed`, where nobody did of the kind that pauses the run."""
        reply = _reply(self._recording, request)
        if reply is None:
            tools = [tool.name for tool in request.tools]
            raise TryFailed(
                "unavailable",
                f"{self._path} has no answer to a request of role {request.role!r}: "
                f"{self._recording.why_not(request.role, request.messages, tools)}\n"
                "If that is meant, let a live model answer it: run it again with --record-new.",
            )
        self.health.answered += 1
        return reply

    async def close(self) -> None:
        """Hold nothing, close nothing."""


class RecordedFirst:
    """A live model that is asked only what a recording does not know."""

    def __init__(self, recording: Recording, live: Model) -> None:
        self.health = live.health
        self._recording = recording
        self._live = live

    async def prepare(self) -> None:
        """Get the live model ready. Raises `ModelUnavailable`."""
        if isinstance(self._live, Prepared):
            await self._live.prepare()

    async def ask(self, request: ModelRequest) -> ModelReply:
        """Answer as it was answered, else live. Raises `TryFailed`."""
        return _reply(self._recording, request) or await self._live.ask(request)

    async def close(self) -> None:
        """Let go of the live model."""
        await self._live.close()


def load(path: Path) -> Recording:
    """Read a file of recorded events. Raises `ModelUnavailable` with file, line and fault."""
    try:
        return Recording(read_events(path))
    except FileNotFoundError as error:
        raise ModelUnavailable(
            f"{path} is not there.", "Record a run into it: `swarm run` with --record-new, or `swarm log RUN --json`."
        ) from error
    except (OSError, ValueError) as error:
        raise ModelUnavailable(
            f"{path} cannot be used as a recording: {error}.",
            "Name a file that holds what `swarm log RUN --json` prints.",
        ) from error


def read_events(path: Path) -> Iterator[Envelope]:
    """Yield the events that a file holds, one a line. Raises `OSError`, and `ValueError` with line and fault."""
    if path.stat().st_size > MOST_BYTES:
        raise ValueError(f"it is larger than {MOST_BYTES // 1024**2} MiB")
    if not path.is_file():
        raise ValueError("it is no regular file")
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                yield decode(line)
            except (BadEnvelope, TooNew) as error:
                raise ValueError(f"line {number}: {error}") from error


def _reply(recording: Recording, request: ModelRequest) -> ModelReply | None:
    """Return the recorded reply, None where there is none. Raises `TryFailed` where the request failed in the end."""
    found = recording.take(request.role, request.messages, [tool.name for tool in request.tools])
    match found:
        case ModelTryFailed():
            raise TryFailed(cast("TryKind", found.kind), found.reason, unproven=found.unproven, final=True)
        case ModelAnswered():
            return ModelReply(found.text, found.usage, found.calls, found.finish, found.refusal)
        case None:
            return None
