"""Any endpoint that speaks Chat Completions: OpenAI's, a hosted one, vLLM, Ollama, llama.cpp."""

from agents.completions.endpoint import shared_endpoint
from agents.errors import ModelUnavailable
from agents.model import ModelPlace, ModelReply, ModelRequest

OPENAI_URL = "https://api.openai.com/v1"


class OpenAIChat:
    """The model `name` at `place.url`, by default OpenAI's."""

    def __init__(self, name: str, place: ModelPlace) -> None:
        if place.key_name and not place.key:
            raise ModelUnavailable(f"{name!r} needs a key in {place.key_name}.", f"export {place.key_name}=…")
        self._endpoint = shared_endpoint(place.url or OPENAI_URL, place.key, key_name=place.key_name, calls=place.calls)
        self.health = self._endpoint.health

    async def ask(self, request: ModelRequest) -> ModelReply:
        """Make one try. Raises `TryFailed`."""
        return await self._endpoint.ask(request)

    async def close(self) -> None:
        """Let go of the endpoint."""
        await self._endpoint.close()
