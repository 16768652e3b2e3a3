"""Models that a process has opened: each once, when it is first asked for, and all closed together."""

from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Self

from agents.model import Model
from bus.setup import Endpoint
from swarm.preparation.model_choice import open_model, place_of
from swarm.settings import Settings


class OpenModels:
    """Use it with `async with`; it closes what it opened."""

    def __init__(
        self,
        endpoints: Mapping[str, Endpoint],
        settings: Settings,
        *,
        calls: int,
        folder: Path,
        announce: Callable[[str], None],
    ) -> None:
        self._endpoints = endpoints
        self._settings = settings
        self._calls = calls
        self._folder = folder
        self._announce = announce
        self._models: dict[str, Model] = {}
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self._stack.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._stack.aclose()

    def model(self, name: str) -> Model:
        """Return the model `provider:name`. Raises `ModelUnavailable`."""
        if name not in self._models:
            place = place_of(
                name,
                self._endpoints,
                self._settings,
                calls=self._calls,
                folder=self._folder,
                announce=self._announce,
            )
            model = open_model(name, place)
            self._stack.push_async_callback(model.close)
            self._models[name] = model
        return self._models[name]
