import json
from pathlib import Path

import pytest

from agents.errors import ModelUnavailable
from agents.model import ModelPlace, ModelRequest, TryFailed
from agents.models.scripted import Scripted

SCRIPT = """
- {role: planner, json: {subtasks: [{id: a}]}}
- {when: primes, call: {tool: write_file, arguments: {path: a.py}}, usage: {input: 100, output: 5}}
- {role: coder, when: "^sort", call: [{tool: one}, {tool: two}]}
- {role: critic, fail: 503}
- {role: critic, fail: lost}
- {reply: done}
"""


def script(folder: Path, text: str = SCRIPT) -> Scripted:
    (folder / "answers.yaml").write_text(text)
    return Scripted("answers.yaml", ModelPlace(folder=folder))


def asked(role: str, text: str = "do it") -> ModelRequest:
    messages = [{"role": "system", "content": "primes"}, {"role": "user", "content": text}]
    return ModelRequest("answers.yaml", messages, 100, role=role)


async def test_the_first_unused_entry_that_fits_answers(tmp_path: Path) -> None:
    model = script(tmp_path)
    assert (await model.ask(asked("coder"))).text == "done"
    assert json.loads((await model.ask(asked("planner"))).text or "") == {"subtasks": [{"id": "a"}]}
    both = await model.ask(asked("coder", "sort this"))
    assert [call.name for call in both.calls] == ["one", "two"]
    assert len({call.id for call in both.calls}) == 2
    call = await model.ask(asked("coder", "find primes"))
    assert (call.finish, call.calls[0].name, call.calls[0].arguments) == (
        "tool_calls",
        "write_file",
        '{"path": "a.py"}',
    )
    assert (call.usage.input, call.usage.output, call.usage.estimated) == (100, 5, False)
    assert model.health.answered == 4
    await model.close()


async def test_a_failing_entry_fails_as_an_endpoint_would(tmp_path: Path) -> None:
    model = script(tmp_path)
    for kind, unproven in (("server", False), ("lost", True)):
        with pytest.raises(TryFailed) as failed:
            await model.ask(asked("critic"))
        assert (failed.value.kind, failed.value.unproven) == (kind, unproven)
    assert model.health.answered == 0


async def test_a_miss_quotes_the_prompt(tmp_path: Path) -> None:
    model = script(tmp_path, "- {role: planner, reply: x}\n- {role: coder, when: never, reply: x}")
    with pytest.raises(
        TryFailed, match=r"answers\.yaml has no entry.*2 of 2 entries unused, 1 of them.*please sort"
    ) as miss:
        await model.ask(asked("coder", "please sort"))
    assert miss.value.kind == "refused"


async def test_null_is_an_answer_in_json(tmp_path: Path) -> None:
    assert (await script(tmp_path, "- {json: null}").ask(asked("coder"))).text == "null"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("reply: x", "no list"),
        ("- {reply: x}\n- {reply: x, fail: 500}", "entry 2: the entry: .*exactly one of"),
        ("- {rule: x, reply: y}", "entry 1: rule: "),
        ("- {when: '(', reply: x}", "entry 1: when: "),
        ("- {fail: sometimes}", "rate_limited"),
        ("- {reply: x", "is no YAML"),
        ("- !!python/object/apply:os.system [id]", "is no YAML"),
        ("- text", "entry 1"),
    ],
)
def test_a_faulty_file_is_told_by_entry_and_key(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(ModelUnavailable, match=f"answers.yaml.*{told}"):
        script(tmp_path, text)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match=r"none\.yaml cannot be read"):
        Scripted("none.yaml", ModelPlace(folder=tmp_path))
