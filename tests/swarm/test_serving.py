"""Who a hub is, the same after a restart."""

from pathlib import Path

from swarm.hubs.serving import identity


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
