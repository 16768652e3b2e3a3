"""Another future of a run: the same past, paid for once, and its own way from the first difference on."""

import asyncio
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from agents.briefing import Offer
from bus.codec import encode
from bus.envelope import Stamp
from bus.events import GoalSubmitted, JournalCut, ModelAnswered, ModelAsked, ReviewRequested, RunForked
from bus.setup import Endpoint, Permissions, Price
from bus.store import open_store
from swarm import launch
from swarm.errors import UsageError
from swarm.fork import Changes, fork, past_of
from swarm.hubs.desk import NO_FOLDER
from swarm.hubs.hub_config import HubConfig, HubRole
from swarm.hubs.unpacking import unpack
from swarm.preparation import preparing, workspace
from swarm.replay import replay
from swarm.runs import finding
from swarm.runs.clock import utc_now
from swarm.runs.outcome import Outcome
from swarm.runs.ownership import this_process
from swarm.runtime import new_id
from swarm.scenario.model import Scenario
from swarm.submissions.packing import SUBMITTING, pack
from tests.support.command import clean_env, process, serving
from tests.support.endpoint import Answer, Body, ChatEndpoint
from tests.support.runs import layers, player, results, scenario, settings, start, story, task

PLAN = layers(2, 2)


async def forked(folder: Path, at: int, *, of: str, **changes: Any) -> Outcome:
    """Fork a run at an event and carry the fork on to its end."""
    wanted, chosen = Changes(**changes), settings(folder)
    async with finding.reading(chosen) as store:
        past = await past_of(store, of, at)
    ready = await preparing.prepare(past.scenario(wanted), chosen, models=past.models(wanted))
    return await fork(past, ready, wanted, chosen, out=folder / f"fork-{of}-{at}")


async def begun(folder: Path, endpoint: ChatEndpoint, **more: Any) -> str:
    outcome = await start(folder, scenario(endpoint, accept=[{"file": "t1-0.txt"}], **more))
    assert outcome.outcome == "accepted", outcome.reason
    return outcome.run


async def replays(folder: Path, run: str) -> None:
    async with open_store(folder / "home", read_only=True) as store:
        found = await replay(run, store.log.read(run), store.files, folder / "again")
    assert found.difference is None, found.difference.lines()


async def calls_after(folder: Path, run: str, at: int) -> int:
    """Return how many answers of a run stand after an event: those that a fork there has to ask for itself."""
    async with open_store(folder / "home", read_only=True) as store:
        return len([e async for e in store.log.read(run, at + 1) if isinstance(e.event, ModelAnswered)])


async def fork_asks_only_what_is_new(folder: Path, parent: str, at: int, endpoint: ChatEndpoint) -> None:
    seen = len(endpoint.requests)
    outcome = await forked(folder, at, of=parent)
    assert outcome.outcome == "accepted", outcome.reason
    assert len(endpoint.requests) - seen <= await calls_after(folder, parent, at)
    told = await story(folder)
    assert told.of(RunForked)[-1].parent == parent
    assert not told.of(JournalCut)
    async with open_store(folder / "home", read_only=True) as store:
        past = [e async for e in store.log.read(parent, 1, at)]
    assert told.log[:at] == tuple(past), "the past is the parent's"
    await replays(folder, outcome.run)


@pytest.mark.parametrize("at", [1, 5, 9, 17, 26, 33, 41, 52, 60])
async def test_a_fork_without_changes_asks_only_what_was_not_answered_yet(tmp_path: Path, at: int) -> None:
    async with ChatEndpoint(player(PLAN), keep=200) as endpoint:
        parent = await begun(tmp_path, endpoint)
        await fork_asks_only_what_is_new(tmp_path, parent, at, endpoint)


@pytest.mark.torture
@pytest.mark.timeout(900)
async def test_a_run_can_be_forked_at_every_event(tmp_path: Path) -> None:
    async with ChatEndpoint(player(PLAN), keep=400) as endpoint:
        parent = await begun(tmp_path, endpoint)
        length = len((await story(tmp_path)).log)
        assert length >= 60
        for at in range(1, length + 1):
            await fork_asks_only_what_is_new(tmp_path, parent, at, endpoint)


async def test_the_log_of_a_fork_is_a_recording_also_where_an_attempt_was_under_way(tmp_path: Path) -> None:
    plan = [{"id": "it", "role": "coder", "do": "TASK it: write it.txt"}]
    async with ChatEndpoint(player(), keep=200) as endpoint:
        written = scenario(endpoint, plan=plan, accept=[{"file": "it.txt"}])
        parent = await start(tmp_path, written)
        at = next(e.sequence for e in (await story(tmp_path)).log if isinstance(e.event, ModelAnswered))
        fork = await forked(tmp_path, at, of=parent.run, settings=("roles.coder.window=99k",))
    (tmp_path / "fork.jsonl").write_bytes(b"\n".join(encode(one) for one in (await story(tmp_path)).log))
    at_hand = settings(tmp_path)
    ready = await preparing.prepare(
        Scenario.from_dict(written, folder=tmp_path), at_hand, models=("recorded:fork.jsonl",)
    )
    assert ready.setup.roles["coder"].window == 99_000, "as it was in the fork"
    played = await launch.start(ready, at_hand, out=tmp_path / "played")
    assert (played.outcome, played.files) == ("accepted", fork.files), played.reason


async def test_a_fork_with_another_model_asks_again_from_the_first_difference(tmp_path: Path) -> None:
    async with ChatEndpoint(player(PLAN), keep=200, models=("test-model", "other-model")) as endpoint:
        parent = await begun(tmp_path, endpoint)
        log = (await story(tmp_path)).log
        asks = [e for e in log if isinstance(e.event, ModelAsked) and e.subject == "t0-0"]
        at = asks[1].sequence  # the attempt has one answer, and asks for the next
        seen = len(endpoint.requests)
        outcome = await forked(tmp_path, at, of=parent, models=("lab:other-model",))
        assert outcome.outcome == "accepted", outcome.reason
        later = [request.body["model"] for request in [*endpoint.requests][seen:]]
    assert set(later) == {"other-model"}, "no call went to the model of the past"
    told = await story(tmp_path)
    cuts = [e for e in told.log if isinstance(e.event, JournalCut)]
    assert "t0-0" in {e.subject for e in cuts}
    assert {e.event.kept for e in cuts} == {0}, "its very first ask names the model"
    await replays(tmp_path, outcome.run)


async def test_a_fork_with_another_goal_keeps_accepted_work(tmp_path: Path) -> None:
    async with ChatEndpoint(player(PLAN), keep=200) as endpoint:
        parent = await begun(tmp_path, endpoint)
        log = (await story(tmp_path)).log
        at = next(e.sequence for e in log if e.subject == "t1-0")  # what it needs is accepted
        open_then = {e.subject for e in log if e.sequence > at and isinstance(e.event, ModelAnswered)}
        seen = len(endpoint.requests)
        outcome = await forked(tmp_path, at, of=parent, goal="Make them shorter.")
        assert outcome.outcome == "accepted", outcome.reason
        later = [str(request.body["messages"][1]["content"]) for request in [*endpoint.requests][seen:]]
    assert later
    assert all("Make them shorter." in one for one in later)
    accepted = {"t0-0", "t0-1"} - open_then
    assert accepted
    assert not any(f"TASK {name}" in one for one in later for name in accepted)


async def test_a_fork_of_a_run_that_hit_a_limit_goes_on_with_more(tmp_path: Path) -> None:
    async with ChatEndpoint(player(PLAN), keep=200) as endpoint:
        written = scenario(endpoint, accept=[{"file": "t1-0.txt"}], limits={"tokens": 5_000})
        outcome = await start(tmp_path, written, max_tokens=400)
        assert outcome.outcome == "failed"
        outcome = await forked(tmp_path, outcome.events, of=outcome.run, settings=("limits.tokens=200k",))
    assert outcome.outcome == "accepted", outcome.reason
    assert (await story(tmp_path)).state.limits.tokens == 200_000


async def test_a_fork_has_the_inputs_that_its_past_was_given_unless_they_are_changed(tmp_path: Path) -> None:
    """They have no default: without what the person gave, the scenario could not be read again."""
    async with ChatEndpoint(player(PLAN), keep=200) as endpoint:
        written = scenario(endpoint, accept=[{"file": "t1-0.txt"}], inputs={"who": {"description": "for whom"}})
        asked = Scenario.from_dict(
            written | {"goal": "For ${{ inputs.who }}."}, folder=tmp_path, inputs={"who": "Ines"}
        )
        ready = await preparing.prepare(asked, settings(tmp_path))
        parent = (await launch.start(ready, settings(tmp_path), out=tmp_path / "out")).run
        outcome = await forked(tmp_path, 5, of=parent, settings=("limits.rounds=2",))
    assert outcome.outcome == "accepted", outcome.reason
    setup = (await story(tmp_path)).state.setup
    assert setup is not None
    assert (setup.goal, setup.limits.rounds) == ("For Ines.", 2)
    async with finding.reading(settings(tmp_path)) as store:
        past = await past_of(store, parent, 5)
    assert past.scenario(Changes(settings=("who=Ada",))).goal == "For Ada."


async def test_a_fork_of_an_ended_run_is_judged_by_what_it_wants(tmp_path: Path) -> None:
    async with ChatEndpoint(player(PLAN), keep=200) as endpoint:
        parent = await begun(tmp_path, endpoint)
        length = len((await story(tmp_path)).log)
        outcome = await forked(tmp_path, length, of=parent, settings=("accept=[{file: t1-1.txt}]",))
    assert outcome.outcome == "accepted"
    assert "t1-1.txt" in outcome.reason


async def test_a_fork_of_a_fork_reads_through_both_pasts(tmp_path: Path) -> None:
    async with ChatEndpoint(player(PLAN), keep=200) as endpoint:
        first = await begun(tmp_path, endpoint)
        second = (await forked(tmp_path, 30, of=first)).run
        third = await forked(tmp_path, 35, of=second, goal="Another.")
        assert third.outcome == "accepted", third.reason
    assert [e.at for e in (await story(tmp_path)).of(RunForked)] == [30, 35]
    await replays(tmp_path, third.run)


@pytest.mark.parametrize("setting", ["plan=[]", "workspace=./elsewhere"])
async def test_what_the_past_has_settled_is_refused(tmp_path: Path, setting: str) -> None:
    async with ChatEndpoint(player(PLAN)) as endpoint:
        parent = await begun(tmp_path, endpoint)
        with pytest.raises(UsageError, match="a fork keeps the"):
            await forked(tmp_path, 5, of=parent, settings=(setting,))
        with pytest.raises(UsageError, match="there is no event 4000"):
            await forked(tmp_path, 4000, of=parent)


async def test_a_fork_has_the_files_and_prompts_of_its_past_also_where_they_are_gone(tmp_path: Path) -> None:
    (tmp_path / "material").mkdir()
    (tmp_path / "material" / "notes.md").write_text("as it was")
    (tmp_path / "fr.md").write_text("You write in French.")
    written = {
        "workspace": "./material",
        "accept": [{"file": "material/notes.md"}],
        "inputs": {"lang": {"default": "fr"}},
        "roles": {"coder": {"prompt": "./${{ inputs.lang }}.md"}},
    }
    async with ChatEndpoint(player(PLAN), keep=200) as endpoint:
        parent = (await start(tmp_path, scenario(endpoint, **written))).run
        (tmp_path / "material").rename(tmp_path / "away")
        (tmp_path / "fr.md").unlink()
        outcome = await forked(tmp_path, 5, of=parent)
        assert outcome.outcome == "accepted", outcome.reason
        again = await forked(tmp_path, 8, of=outcome.run)
        assert again.outcome == "accepted", again.reason
        state = (await story(tmp_path)).state
        assert state.tree["material/notes.md"].bytes == len("as it was")
        assert state.setup is not None
        assert state.setup.roles["coder"].prompt == "You write in French."
        assert state.setup.written["workspace"] == "./material"


async def test_a_prompt_s_file_is_read_again_where_a_fork_names_it(tmp_path: Path) -> None:
    (tmp_path / "coder.md").write_text("You write.")
    async with ChatEndpoint(player(PLAN), keep=200) as endpoint:
        parent = (await start(tmp_path, scenario(endpoint, roles={"coder": {"prompt": "./coder.md"}}))).run
        (tmp_path / "coder.md").write_text("You write well.")
        async with finding.reading(settings(tmp_path)) as store:
            past = await past_of(store, parent, None)
    assert past.scenario(Changes()).roles["coder"].prompt == "You write."
    named = Changes(settings=("roles.coder.prompt='./coder.md'",))
    assert past.scenario(named).roles["coder"].prompt == "You write well."


async def test_a_schema_beside_the_scenario_counts_and_a_fork_has_it_also_where_it_is_gone(tmp_path: Path) -> None:
    beside = tmp_path / "s.json"
    beside.write_text('{"required": ["price"]}')

    def play(role: str, _: str, body: Body) -> Answer | None:
        if role != "coder" or any(result.startswith("Wrote") for result in results(body)):
            return None
        files = {"a.txt": '{"price": 1}', "s.json": '{"required": ["zebra"]}'}
        return Answer(calls=[("write_file", {"path": path, "content": text}) for path, text in files.items()])

    async with ChatEndpoint(player([task("a")], play), keep=200) as endpoint:
        outcome = await start(tmp_path, scenario(endpoint, accept=[{"json": "a.txt", "schema": "./s.json"}]))
        assert outcome.outcome == "accepted", outcome.reason
        begun = (await story(tmp_path)).of(GoalSubmitted)[0]
        assert begun.hashes["s.json"] == hashlib.sha256(beside.read_bytes()).hexdigest()
        beside.unlink()
        again = await forked(tmp_path, 5, of=outcome.run)
        assert again.outcome == "accepted", again.reason
        assert (await story(tmp_path)).of(ReviewRequested)[-1].accept[0]["schema"] == {"required": ["price"]}
        beside.write_text('{"required": ["cost"]}')
        async with finding.reading(settings(tmp_path)) as store:
            past = await past_of(store, again.run, None)
    assert past.scenario(Changes()).accept[0]["schema"] == {"required": ["price"]}
    for setting in "accept.0.schema=./s.json", "accept=[{json: a.txt, schema: s.json}]":
        assert past.scenario(Changes(settings=(setting,))).accept[0]["schema"] == {"required": ["cost"]}


async def submitted(folder: Path, written: Mapping[str, Any], config: HubConfig, *offers: Offer) -> str:
    """Record the first event of a run as a hub does that takes a scenario from elsewhere."""
    client = folder / "client"
    asked = Scenario.from_dict(
        {"name": "storm", "goal": "Make all the files."} | written, folder=client, around=SUBMITTING
    )
    submission, _ = pack(asked, run="storm-1", client="ann/laptop", home=folder / "home")
    unpacked = unpack(submission, config, folder=NO_FOLDER, offered={one.role: one for one in offers})
    setup = await preparing.prepare_for_agents(
        unpacked.scenario, settings(folder), models=submission.models, elsewhere=unpacked.elsewhere
    )
    async with open_store(folder / "home") as store:
        files = await workspace.take_in(asked, store.files, home=folder / "home")
        first = GoalSubmitted(setup=setup, workspace=files, client=submission.client)
        epoch = await store.log.create("storm-1", this_process())
        stamp = Stamp("/swarm/hub/lab", new_id, utc_now)
        await store.log.append("storm-1", 0, epoch, [stamp("storm-1", first, sequence=1)])
        await store.log.release("storm-1", epoch)
    return "storm-1"


async def test_a_run_of_a_hub_is_forked_with_what_the_hub_brought_and_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "client" / "material").mkdir(parents=True)
    (tmp_path / "client" / "material" / "notes.md").write_text("as it was")
    (tmp_path / "client" / "coder.md").write_text("You write for the client.")
    (tmp_path / "here").mkdir()
    (tmp_path / "roles.py").write_text(
        "import swarm\nfrom agents.roles.coder import Coder\nclass Tester(Coder): pass\n"
    )
    plan = [task("a"), task("b", ["a"], role="tester")]
    async with ChatEndpoint(player(), keep=200) as endpoint:
        config = HubConfig(
            roles={
                "tester": HubRole("tests", uses=f"{tmp_path / 'roles.py'}:Tester", tools=("write_file",)),
                "critic": HubRole(prompt="You judge for the hub.", dialogue="json", window=9_000),
            },
            endpoints={"lab": Endpoint(url=endpoint.url)},
            prices={"lab": Price(input=1, output=2, cached=0)},
            model="lab:test-model",
            permissions=Permissions(fetch=("example.org",)),
            limits={"tokens": 150_000},
        )
        written = {
            "workspace": "./material",
            "roles": {"coder": {"prompt": "./coder.md"}},
            "plan": plan,
            "accept": [{"file": "material/notes.md"}],
            "limits": {"money": "1 USD"},
        }
        run = await submitted(tmp_path, written, config, Offer("painter", "paints", ("paint",)))
        (tmp_path / "client").rename(tmp_path / "gone")
        monkeypatch.chdir(tmp_path / "here")
        outcome = await forked(tmp_path, 1, of=run, settings=("limits.rounds=2",))
        assert outcome.outcome == "accepted", outcome.reason
        again = await forked(tmp_path, 1, of=outcome.run, settings=("permissions.fetch=[example.com]",))
        assert again.outcome == "accepted", again.reason
    async with open_store(tmp_path / "home", read_only=True) as store:
        setup = (await past_of(store, outcome.run, None)).setup
    assert setup.permissions.fetch == ("example.org",)
    assert (setup.limits.tokens, setup.limits.rounds) == (150_000, 2)
    assert setup.folder == str(tmp_path / "here")
    assert setup.roles["coder"].prompt == "You write for the client."
    assert setup.roles["critic"].prompt == "You judge for the hub."
    assert (setup.roles["critic"].dialogue, setup.roles["critic"].window) == ("json", 9_000)
    assert "painter" not in setup.roles, "nobody here can do its work"
    changed = (await story(tmp_path)).state.setup
    assert changed is not None
    assert changed.permissions.fetch == ("example.com",)
    async with open_store(tmp_path / "home", read_only=True) as store:
        past = await past_of(store, outcome.run, None)
    other = past.scenario(Changes(models=("critic=lab:other",))).roles["critic"]
    assert (other.dialogue, other.window) == (None, None), "what holds for one model need not hold for another"


@pytest.mark.parametrize("role", ["summer", "painter"])
async def test_a_role_that_agents_brought_is_named_by_a_fork_that_needs_it_and_may_be_given_code(
    tmp_path: Path, role: str
) -> None:
    async with ChatEndpoint(player(), keep=200) as endpoint:
        (tmp_path / "client").mkdir()
        (tmp_path / "roles.py").write_text("from agents.roles.coder import Coder\nclass Mine(Coder): pass\n")
        config = HubConfig(endpoints={"lab": Endpoint(url=endpoint.url)}, model="lab:test-model")
        written = {"plan": [task("a", role=role)], "accept": [{"file": "a.txt"}]}
        run = await submitted(tmp_path, written, config, Offer("summer", "sums", ("add",)))
        with pytest.raises(UsageError, match=rf"role '{role}' was brought .* --set roles\.{role}\.uses="):
            await forked(tmp_path, 1, of=run)
        async with finding.reading(settings(tmp_path)) as store:
            assert role not in (await past_of(store, run, 1)).as_it_was().roles
        outcome = await forked(tmp_path, 1, of=run, settings=(f"roles.{role}.uses={tmp_path / 'roles.py'}:Mine",))
    assert outcome.outcome == "accepted", outcome.reason


def test_the_command_forks_and_tells_the_outcome(tmp_path: Path) -> None:
    with serving(responder=player(PLAN)) as endpoint:
        parent = asyncio.run(begun(tmp_path, endpoint))
        env = clean_env(tmp_path, SWARM_HOME=str(tmp_path / "home"))
        done = process("fork", parent, "--at", "12", "--goal", "Shorter.", "--json", cwd=tmp_path, env=env)
        assert done.status == 0, done.err
        assert done.json["outcome"] == "accepted"
        done = process("log", done.json["run"], "--type", "RunForked", cwd=tmp_path, env=env)
        assert f"begins another future of {parent} from its event 12 with goal" in done.out
        named = "coder=lab:test-model"
        done = process("fork", parent, "--at", "12", "--model", named, cwd=tmp_path, env=env)
    assert f"model for planner, researcher, critic: lab:test-model (as in {parent})\n" in done.err
    assert "model for coder: lab:test-model (from --model coder=)\n" in done.err
