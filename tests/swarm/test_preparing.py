from pathlib import Path

import pytest

from agents.completions.prices import price_of
from bus.setup import Price
from swarm.commands.choices import price_lines
from swarm.preparation import preparing
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


@pytest.mark.parametrize(
    ("url", "max_tokens", "seconds"),
    [
        ("https://lab.example/v1", None, 120),
        ("https://lab.example/v1", 2_048, 120),
        ("https://lab.example/v1", 16_384, 480),
        ("http://127.0.0.1:1234/v1", None, 600),
        ("http://localhost:1234/v1", None, 600),
        ("http://192.168.1.7:8000/v1", 8_192, 1200),
    ],
)
@pytest.mark.parametrize("provider", ["lab", "openai"])
async def test_a_try_may_take_as_long_as_its_answer_needs_where_it_is_made(
    provider: str, url: str, max_tokens: int | None, seconds: int
) -> None:
    roles = {"coder": {"max_tokens": max_tokens}} if max_tokens else {}
    written = {"name": "slow", "goal": "Say it.", "model": f"{provider}:big", "roles": roles}
    if provider == "lab":
        written["endpoints"] = {"lab": {"url": url}}
    ready = await preparing.prepare(Scenario.from_dict(written), Settings(home=Path(".swarm"), openai_url=url))
    assert ready.setup.roles["coder"].timeout_ms == seconds * 1000
    assert ready.setup.roles["coder"].window == 32_768
