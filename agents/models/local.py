"""A small open model on this machine: llama.cpp in a child process on loopback, behind a key of its own.

`local:NAME` is one of the weights that we know and download; `local:/path/to.gguf` any file. All that use the same one
in a process share one child, which starts on the first call and ends with the last user, or with us.
"""

import asyncio
import importlib.util
import secrets
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from weakref import WeakKeyDictionary

from agents.completions import weights
from agents.completions.endpoint import Endpoint
from agents.completions.shapes import quote
from agents.errors import ModelUnavailable
from agents.model import EndpointHealth, ModelPlace, ModelReply, ModelRequest, TryFailed

COMMAND = (sys.executable, "-m", "agents.models.local_server")
"""Starts the child; the GGUF file follows."""

_CALLS = 2
_LOAD_TIMEOUT_S = 300.0
_STOP_TIMEOUT_S = 5.0
_STDERR_KEPT = 2000

_children: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, "_Child"]] = WeakKeyDictionary()


class Local:
    """The model `name`: a name of `agents.completions.weights.WEIGHTS`, or the path of a GGUF file."""

    def __init__(self, name: str, place: ModelPlace, *, command: Sequence[str] = COMMAND) -> None:
        is_path = name.endswith(".gguf") or "/" in name
        if not is_path and name not in weights.WEIGHTS:
            known = ", ".join(weights.WEIGHTS)
            raise ModelUnavailable(
                f"local:{name} is not known (known: {known}).", "Or give a file: local:/path/to.gguf."
            )
        if command is COMMAND and importlib.util.find_spec("xllamacpp") is None:
            raise ModelUnavailable(f"local:{name} needs the `local` extra.", "pip install 'eventswarm[local]'")
        self._name = name
        self._place = place
        self._path = place.folder / Path(name).expanduser() if is_path else None
        known_children = _children.setdefault(asyncio.get_running_loop(), {})
        self._child = known_children.setdefault(name, _Child(command, place.announce))
        self._child.users += 1
        self.health: EndpointHealth = self._child.health

    async def prepare(self) -> None:
        """Download and load the model now, before a clock runs. Raises `ModelUnavailable`."""
        await self._child.started(self._file)

    async def ask(self, request: ModelRequest) -> ModelReply:
        """Make one try; the first downloads and loads the model where `prepare` has not. Raises `TryFailed`."""
        try:
            endpoint = await self._child.started(self._file)
        except ModelUnavailable as error:
            raise TryFailed("unavailable", error.reason, remedy=error.remedy) from error
        return await endpoint.ask(request)

    async def close(self) -> None:
        """Let go; the last user ends the child."""
        self._child.users -= 1
        if self._child.users <= 0:
            _children.get(asyncio.get_running_loop(), {}).pop(self._name, None)
            await self._child.stop()

    async def _file(self) -> Path:
        """Return the GGUF file, downloaded first where needed. Raises `ModelUnavailable`."""
        if self._path is None:
            cache = self._place.cache or weights.default_cache()
            return await weights.fetch(weights.WEIGHTS[self._name], cache, self._place.announce, self._progress())
        if not await asyncio.to_thread(self._path.is_file):
            raise ModelUnavailable(f"{self._path} is not there.", "Give the path of a GGUF file: local:/path/to.gguf.")
        return self._path

    def _progress(self) -> weights.Progress:
        """Return what announces each tenth of a download."""
        told = 0

        def progress(done: int, whole: int) -> None:
            nonlocal told
            if done * 10 // whole > told:
                told = done * 10 // whole
                self._place.announce(f"{told * 10} % of {whole / 1e6:.0f} MB")

        return progress


class _Child:
    """One child process and the endpoint that it offers."""

    def __init__(self, command: Sequence[str], announce: Callable[[str], None]) -> None:
        self.users = 0
        self.health = EndpointHealth()
        self._command = command
        self._announce = announce
        self._starting = asyncio.Lock()
        self._process: asyncio.subprocess.Process | None = None
        self._endpoint: Endpoint | None = None
        self._errors: asyncio.Task[None] | None = None
        self._said = bytearray()

    async def started(self, file: Callable[[], Awaitable[Path]]) -> Endpoint:
        """Return the endpoint; a child that is not there, or has died, is started. Raises `ModelUnavailable`."""
        async with self._starting:
            if self._endpoint and self._process and self._process.returncode is None:
                return self._endpoint
            await self.stop()
            path = await file()
            try:
                async with asyncio.timeout(_LOAD_TIMEOUT_S):
                    self._endpoint = endpoint = await self._start(path)
            except TimeoutError as error:
                said = f"{path.name} was not loaded within {_LOAD_TIMEOUT_S:.0f} s."
                raise ModelUnavailable(said, "Take a smaller model.") from error
            finally:
                if self._endpoint is None:
                    await self.stop()
            return endpoint

    async def stop(self) -> None:
        """End the child; it goes when its standard input ends, and is killed where it does not."""
        process, endpoint, errors = self._process, self._endpoint, self._errors
        self._process = self._endpoint = self._errors = None
        if endpoint:
            await endpoint.close()
        if process:
            if process.stdin:
                process.stdin.close()
            try:
                async with asyncio.timeout(_STOP_TIMEOUT_S):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()
        if errors:
            await errors

    async def _start(self, path: Path) -> Endpoint:
        """Start the child and wait until the model is loaded. Raises `ModelUnavailable`."""
        self._announce(f"loading {path.name}")
        self._said.clear()
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(*self._command, str(path), stdin=pipe, stdout=pipe, stderr=pipe)
        self._process = process
        self._errors = asyncio.create_task(self._listen(process), name=f"errors of {path.name}")
        key = secrets.token_urlsafe(32)
        if process.stdin is None or process.stdout is None:
            raise ModelUnavailable("The child process has no pipes.")
        process.stdin.write(key.encode() + b"\n")
        while line := await process.stdout.readline():
            word, _, url = line.decode(errors="replace").strip().partition(" ")
            if word == "ready":
                return Endpoint(f"{url}/v1", key, calls=_CALLS, health=self.health)
        await self._errors
        said = quote(bytes(self._said[-_STDERR_KEPT:]), _STDERR_KEPT)
        raise ModelUnavailable(f"{path.name} could not be loaded: {said or 'the child process ended'}.")

    async def _listen(self, process: asyncio.subprocess.Process) -> None:
        """Keep the end of what the child says on standard error."""
        while process.stderr and (said := await process.stderr.read(4096)):
            self._said += said
            del self._said[:-_STDERR_KEPT]
