"""What holds for all tests: no deadlines for single examples (machines are busy), and examples that repeat."""

import pytest
from hypothesis import settings

settings.register_profile("swarm", deadline=None, print_blob=True)
settings.load_profile("swarm")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what may take longest, so that of several workers none is left alone with it at the end."""
    items.sort(key=_may_take_s, reverse=True)


def _may_take_s(item: pytest.Item) -> float:
    said = item.get_closest_marker("timeout")
    return float(said.args[0]) if said is not None else 0.0
