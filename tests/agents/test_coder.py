"""The coder, in runs with a scripted model."""

import json
from pathlib import Path

import pytest

import swarm
from agents.roles.coder import block_of
from bus.events import ModelAsked
from swarm import Outcome
from tests.support.endpoint import Answer, ChatEndpoint
from tests.support.runs import scenario, start


async def run(
    place: Path, dialogue: str, *answers: object, notes: bytes = b"Half a cent counts.\n"
) -> tuple[Outcome, list[str]]:
    """Run one subtask that makes a.py; return what it came to, and the last thing the coder was told."""
    script = place / "script.yaml"
    script.write_text(json.dumps(answers))
    told: list[str] = []
    (place / "notes.md").write_bytes(notes)
    outcome = await swarm.run(
        swarm.Scenario.from_dict(
            {
                "goal": "Write a.py.",
                "roles": {"coder": {"dialogue": dialogue}},
                "workspace": "./notes.md",
                "plan": [{"id": "a", "role": "coder", "do": "Write it.", "accept": [{"file": "a.py"}]}],
                "accept": [{"text": "a.py", "contains": "print"}],
                "limits": {"rounds": 2},
            },
            folder=place,
        ),
        model=f"scripted:{script}",
        home=place / "home",
        out=place / "out",
        on_event=lambda envelope: (
            told.append(str(envelope.event.messages[-1]["content"])) if isinstance(envelope.event, ModelAsked) else None
        ),
    )
    return outcome, told


WRITE = {"call": {"tool": "write_file", "arguments": {"path": "a.py", "content": "print(1)\n"}}}


async def test_a_coder_that_answers_without_its_file_is_told_so_and_goes_on(tmp_path: Path) -> None:
    outcome, told = await run(tmp_path, "native", {"reply": "print(1)"}, WRITE, {"reply": "Done."})
    assert outcome.outcome == "accepted"
    assert outcome.subtasks[0].attempts == 1
    assert "There is no file 'a.py'" in told[1]


async def test_a_coder_is_told_once_then_its_result_is_judged_as_it_is(tmp_path: Path) -> None:
    outcome, told = await run(
        tmp_path,
        "native",
        {"reply": "I did."},
        {"reply": "I did!"},
        {**WRITE, "when": "not accepted"},
        {"reply": "Now."},
    )
    assert outcome.outcome == "accepted"
    assert outcome.subtasks[0].attempts == 2
    assert len(told) == 4


async def test_a_model_of_json_actions_sees_the_files_and_answers_with_the_one_that_is_wanted(tmp_path: Path) -> None:
    outcome, told = await run(tmp_path, "json", {"reply": "Here it is:\n```python\nprint(2)\n```\nGood luck!"})
    assert outcome.outcome == "accepted"
    assert (tmp_path / "out" / "a.py").read_text() == "print(2)\n"
    assert "Half a cent counts." in told[0]
    assert outcome.model_calls == 1


async def test_what_is_no_text_among_the_files_is_named_to_it(tmp_path: Path) -> None:
    outcome, told = await run(tmp_path, "json", {"reply": "print(2)"}, notes=b"\x89PNG\0")
    assert outcome.outcome == "accepted"
    assert "'notes.md' cannot be read: it is no text." in told[0]


async def test_a_second_try_of_it_is_told_what_was_wrong_last_and_not_shown_what_it_would_copy(tmp_path: Path) -> None:
    outcome, told = await run(tmp_path, "json", {"reply": "```\nx = 1\n```"}, {"reply": "```\nprint(x)\n```"})
    assert outcome.outcome == "accepted"
    assert "x = 1" not in told[1]
    assert told[1].index("Half a cent counts.") < told[1].index("does not contain 'print'")


CUT = Answer(calls=[("write_file", '{"path": "a.txt", "content": "one\\ntw')], finish="length")


async def at_endpoint(place: Path, *answers: Answer) -> tuple[Outcome, list[str]]:
    """Run one subtask that makes a.txt at an endpoint; return what it came to, and all that the coder was told last."""
    async with ChatEndpoint(answers=answers) as endpoint:
        plan = [{"id": "a", "role": "coder", "do": "Write it."}]
        written = scenario(endpoint, plan=plan, accept=[{"file": "a.txt"}], limits={"attempts": 1, "rounds": 1})
        outcome = await start(place, written)
    return outcome, [str(received.body["messages"][-1]["content"]) for received in endpoint.requests]


async def test_a_coder_whose_call_was_cut_at_the_limit_is_told_so_and_writes_the_file_in_parts(tmp_path: Path) -> None:
    begin = ("write_file", {"path": "a.txt", "content": "one\n"})
    rest = ("edit_file", {"path": "a.txt", "old": "one\n", "new": "one\ntwo\n"})
    outcome, told = await at_endpoint(tmp_path, CUT, Answer(calls=[begin]), Answer(calls=[rest]), Answer("Done."))
    assert outcome.outcome == "accepted", outcome.reason
    assert (tmp_path / "out" / "a.txt").read_text() == "one\ntwo\n"
    assert "cut off at" in told[1]
    assert "Write a long file in parts: first its beginning, then what follows, each by an edit at its end." in told[1]


async def test_a_call_that_is_cut_again_ends_the_attempt_with_its_reason(tmp_path: Path) -> None:
    outcome, told = await at_endpoint(tmp_path, CUT, CUT)
    assert outcome.outcome == "failed"
    assert "cut off at" in outcome.reason
    assert len(told) == 2


PAGE = "# Title\n\n```sh\npip install x\n```\n\nUsage.\n\n```python\nimport x\n```\n\nThe end.\n"
BARE = "# Title\n\n```\npip install x\n```\n\nThe end.\n"
MODULE = '"""Doc.\n\n```\n>>> f(1)\n```\n"""\n\n\ndef f(x):\n    return x\n'


@pytest.mark.parametrize(
    ("path", "text", "found"),
    [
        ("a.py", "x = 1", "x = 1\n"),
        ("a.py", "Like this:\n```py\nx = 1\n```\nor\n```\nx\n```", "x = 1\n"),
        ("a.py", "```python\nx = 1\n", "x = 1\n"),
        ("a.md", "# Title\n```\nx\n```\nEnd.", "# Title\n```\nx\n```\nEnd.\n"),
        ("a.md", "```markdown\n# Title\n```", "# Title\n"),
        ("a.md", f"```markdown\n{PAGE}```", PAGE),
        ("a.md", f"```markdown\n{BARE}```", BARE),
        ("a.md", f"````markdown\n{BARE}````", BARE),
        ("a.md", f"```markdown\n{PAGE}```\nGood luck!", PAGE),
        ("a.md", f"```markdown\n{PAGE}", PAGE),
        ("a.md", "```markdown\n# A title\n```\nSee it with\n```sh\ncat a.md\n```", "# A title\n"),
        ("a.py", f"Here it is:\n\n```python\n{MODULE}```", MODULE),
        ("a.py", f"```python\n{MODULE}```\nGood luck!", MODULE),
        ("a.py", "```python\nx = 12\n```\n\nOutput:\n```\n12\n```", "x = 12\n"),
        ("a.py", "```python\nx = 123456789\n```\n\nUsage:\n```python\nimport a\n```", "x = 123456789\n"),
        ("a.py", "```sh\npip install b\n```\nThen:\n```python\nimport b\n\nb.run(1)\n```", "import b\n\nb.run(1)\n"),
        (
            "a.py",
            'Here:\n```python\nx = """\n    ```\n    x\n    ```\n"""\n```',
            'x = """\n    ```\n    x\n    ```\n"""\n',
        ),
    ],
)
def test_the_file_is_taken_out_of_an_answer(path: str, text: str, found: str) -> None:
    assert block_of(text, path) == found
