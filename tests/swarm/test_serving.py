"""Who a hub is, the same after a restart, and only one at a time."""

import json
from pathlib import Path

import pytest

from swarm.errors import UsageError
from swarm.hubs.serving import identity, only_hub


def test_a_hub_is_the_same_after_a_restart(tmp_path: Path) -> None:
    home = tmp_path / "not" / "there yet"  # nobody else makes it where the log is on a server
    first = identity(home)
    assert identity(home) == first
    assert identity(home, first.name) == first
    assert (home / "hub.json").stat().st_mode & 0o777 == 0o600


def test_a_hub_that_was_killed_as_it_wrote_who_it_is_is_another_one(tmp_path: Path) -> None:
    (tmp_path / "hub.json").touch()
    assert identity(tmp_path, "north").name == "north"
    assert identity(tmp_path).name == "north"


def test_a_name_that_can_stand_in_no_topic_is_not_kept_and_one_that_was_is_not_used(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot stand in a topic"):
        identity(tmp_path, "a/b")
    assert not (tmp_path / "hub.json").exists()
    (tmp_path / "hub.json").write_text(json.dumps({"name": "a/b", "client_id": "swarm-1"}), encoding="utf-8")
    assert identity(tmp_path, "north").name == "north"


async def test_one_home_has_one_hub_at_a_time_that_goes_by_what_it_keeps(tmp_path: Path) -> None:
    async with only_hub(tmp_path, "north"):
        with pytest.raises(UsageError, match=r"hub north of .* is at work already"):
            async with only_hub(tmp_path):
                pass
        async with only_hub(tmp_path, "south") as other:
            assert other.name == "south"
    async with only_hub(tmp_path) as again:
        assert again.name == "north"
