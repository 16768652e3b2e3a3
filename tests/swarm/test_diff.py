"""Two runs side by side: where they part, and what came of it."""

from pathlib import Path

from swarm import launch
from tests.support.command import clean_env, process
from tests.support.endpoint import ChatEndpoint
from tests.support.runs import layers, player, prepare, scenario, settings
from tests.swarm.test_fork import begun, forked

PLAN = layers(2, 2)


async def test_a_run_and_its_fork_part_at_the_fork(tmp_path: Path) -> None:
    async with ChatEndpoint(player(PLAN), keep=200) as endpoint:
        parent = await begun(tmp_path, endpoint)
    changed = player([*PLAN[:3]], lambda role, *_: "Another word." if role == "coder" else None)
    async with ChatEndpoint(changed, keep=200) as endpoint:
        fork = await forked(
            tmp_path, 20, of=parent, goal="Shorter.", settings=(f"endpoints.lab.url={endpoint.url}", "accept=[]")
        )
    env = clean_env(tmp_path, SWARM_HOME=str(tmp_path / "home"))
    done = process("diff", parent, fork.run, cwd=tmp_path, env=env)
    assert done.status == 1, done.err
    assert "They part at event 21:" in done.out
    assert "RunForked" in done.out
    assert "Files that differ:" in done.out
    found = process("diff", parent, fork.run, "--json", cwd=tmp_path, env=env).json
    assert found["parting"]["position"] == 21
    assert found["parting"]["b"]["type"] == "swarm.RunForked.v1"
    assert {file["what"] for file in found["files"]} == {"only in a"}
    assert found["a"]["run"] == parent
    assert found["b"]["head"] == fork.head


async def test_a_run_done_again_is_the_same_and_times_do_not_count(tmp_path: Path) -> None:
    plan = [{"id": "it", "role": "coder", "do": "TASK it: write it.txt"}]
    runs = []
    async with ChatEndpoint(player()) as endpoint:
        for out in ("a", "b"):
            ready = await prepare(tmp_path, scenario(endpoint, plan=plan, accept=[{"file": "it.txt"}]))
            runs.append((await launch.start(ready, settings(tmp_path), out=tmp_path / out)).run)
    done = process("diff", *runs, cwd=tmp_path, env=clean_env(tmp_path, SWARM_HOME=str(tmp_path / "home")))
    assert (done.status, "They did the same" in done.out) == (0, True), done.out
