"""Runs in a store on a server, looked at and worked with by the same commands as those below `SWARM_HOME`."""

import json
from pathlib import Path

import pytest

from tests.support import postgres
from tests.support.command import ANSWERS, SCENARIO, clean_env, process

pytestmark = [pytest.mark.services, pytest.mark.timeout(120)]


def test_a_run_in_a_shared_store_is_carried_on_shown_forked_compared_moved_and_removed(tmp_path: Path) -> None:
    (tmp_path / "hello.yaml").write_text(SCENARIO)
    (tmp_path / "answers.yaml").write_text(ANSWERS)
    env = clean_env(tmp_path, SWARM_STORE=postgres.clean_url())

    def swarm(*args: str, status: int = 0) -> str:
        ended = process(*args, cwd=tmp_path, env=env)
        assert ended.status == status, ended
        return ended.out + ended.err

    def newest() -> str:
        return str(json.loads(swarm("show", "last", "--json"))["run"])

    assert "nothing has been run there yet" in swarm("doctor", status=process("doctor", cwd=tmp_path, env=env).status)
    assert "SWARM_STORE names has no runs" in swarm("show", "last", status=2)
    assert "accepted" in swarm("run", "hello.yaml", "--trust")
    assert not (tmp_path / ".swarm" / "log.db").exists(), "it went to the server"
    first = newest()
    assert "accepted" in swarm("show", first)
    assert "goal reached" in swarm("log", first)
    assert "all as the log has them" in swarm("replay", first)
    assert "accepted" in swarm("fork", first, "--at", "6", "--goal", "Write hello.txt again", "--trust")
    fork = newest()
    assert fork != first
    assert "accepted" in swarm("resume", fork), "it has ended: its files are handed over again"
    assert "They part at event 7" in swarm("diff", first, fork, status=1)
    swarm("export", first, "moved.zip")
    assert "removed" in swarm("rm", fork, "--yes")
    swarm("gc")
    assert "all as the log has them" in swarm("replay", first)
    del env["SWARM_STORE"]
    swarm("import", "moved.zip")
    assert "all as the log has them" in swarm("replay", "last", "--trust")
