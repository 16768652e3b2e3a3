"""Which models a run will speak with, and why those, in lines for people."""

from collections.abc import Iterator, Mapping

from bus.setup import Price
from swarm.preparation.model_choice import Choice
from swarm.preparation.preparing import price_here
from swarm.scenario.model import Scenario
from swarm.settings import Settings
from swarm.views.terminal import one_line

_LONG = 200


def chosen_lines(choices: Mapping[str, Choice]) -> Iterator[str]:
    """Yield a line a model: for whom, and why."""
    by_choice: dict[Choice, list[str]] = {}
    for role, choice in choices.items():
        by_choice.setdefault(choice, []).append(role)
    for choice, roles in by_choice.items():
        whose = "" if len(by_choice) == 1 else f" for {', '.join(roles)}"
        yield f"model{whose}: {one_line(choice.model, _LONG)} ({one_line(choice.why, _LONG)})"


def price_lines(scenario: Scenario, choices: Mapping[str, Choice], settings: Settings) -> Iterator[str]:
    """Yield what each model costs."""
    for model in dict.fromkeys(choice.model for choice in choices.values()):
        yield f"price of {one_line(model, _LONG)}: {_price(price_here(model, scenario, settings))}"


def _price(price: Price | None) -> str:
    if price is None:
        return "not known"
    if not (price.input or price.output):
        return "none"
    return f"${price.input / 1e6:g} a million input tokens, ${price.output / 1e6:g} a million output tokens"
