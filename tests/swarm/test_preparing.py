from pathlib import Path

import pytest

from agents.completions.prices import price_of
from bus.setup import Price
from swarm import preparing
from swarm.commands.choices import price_lines
from swarm.scenario.model import Scenario
from swarm.settings import Settings

OPENAI = "https://api.openai.com/v1"
LISTED = price_of("openai", "gpt-4o-mini")


async def price(model: str, endpoints: dict[str, object], **settings: str) -> Price | None:
    """What a run takes a model to cost, and `--dry-run` says."""
    scenario = Scenario.from_dict({"name": "priced", "goal": "Say it.", "model": model, "endpoints": endpoints})
    at_hand = Settings(home=Path(".swarm"), **settings)  # type: ignore[arg-type]
    ready = await preparing.prepare(scenario, at_hand)
    (line,) = price_lines(scenario, ready.choices, at_hand)
    (found,) = {role.price for role in ready.setup.roles.values()}
    assert line.endswith("not known") == (found is None)
    return found


@pytest.mark.parametrize(
    ("url", "listed"), [(None, True), (OPENAI, True), ("http://127.0.0.1:8000/v1", False), ("http://my-box/v1", False)]
)
async def test_what_openai_is_set_to_decides_its_price(url: str | None, *, listed: bool) -> None:
    found = await price("openai:gpt-4o-mini", {}, openai_key="sk-1", openai_url=url)
    assert found == (LISTED if listed else None)


async def test_an_endpoint_costs_what_is_written_or_else_what_is_listed_for_its_address() -> None:
    cheap = {"url": OPENAI, "price": {"input": 1, "output": 2}}
    assert await price("lab:gpt-4o-mini", {"lab": cheap}) == Price(input=1_000_000, output=2_000_000, cached=1_000_000)
    assert await price("lab:gpt-4o-mini", {"lab": {"url": OPENAI}}) == LISTED
    assert await price("lab:gpt-4o-mini", {"lab": {"url": "https://lab.example/v1"}}) is None
