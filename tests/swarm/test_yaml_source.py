import os
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarm.errors import Fault, ScenarioError, cut
from swarm.scenario.source import MOST_ALIASED, MOST_BYTES, MOST_DEPTH, Mark
from swarm.scenario.yaml_source import parse_source, read_source


def faults_of(text: str) -> tuple[Fault, ...]:
    try:
        return parse_source(text, "x.yaml").faults
    except ScenarioError as error:
        return error.faults


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("yes", "yes"),
        ("off", "off"),
        ("true", True),
        ("~", None),
        ("010", 10),
        ("0o17", 15),
        ("0x1F", 31),
        ("-7", -7),
        ("1:30", "1:30"),
        ("1_000", "1_000"),
        ("2020-01-01", "2020-01-01"),
        (".5", 0.5),
        ("1e3", 1000.0),
        ("'1'", "1"),
        ("30m", "30m"),
        ("=", "="),
    ],
)
def test_plain_values_follow_the_core_schema_of_yaml_1_2(text: str, value: object) -> None:
    data = parse_source(f"a: {text}\n").data
    assert isinstance(data, dict)
    assert data["a"] == value
    assert type(data["a"]) is type(value)


def test_every_key_and_value_has_its_place() -> None:
    source = parse_source("goal: |\n  text\nroles:\n  coder: {tools: [a, b]}\n")
    assert source.keys["roles", "coder", "tools"] == Mark(4, 11)
    assert source.values["roles", "coder", "tools", 1] == Mark(4, 22)
    assert source.values["goal",] == Mark(1, 7)


def test_a_value_reached_through_an_alias_stands_where_it_was_written() -> None:
    source = parse_source("a: &x {b: 1}\nc: *x\n")
    assert source.data == {"a": {"b": 1}, "c": {"b": 1}}
    assert source.keys["c", "b"] == Mark(1, 8)


def test_equal_keys_are_each_named_with_the_line_of_the_first() -> None:
    first, second = faults_of("a: 1\nb: {c: 1, c: 2}\na: 2\n")
    assert (first.line, first.column, second.line) == (2, 11, 3)
    assert "'a' stands twice" in second.message
    assert "line 1" in second.hint


@pytest.mark.parametrize("text", ["a: !!python/object:os.system x", "a: !x [1]", "!!map {a: 1}", "a: ! x"])
def test_tags_are_refused(text: str) -> None:
    (fault,) = faults_of(text)
    assert fault.kind == "yaml"
    assert fault.line == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: b: c", "mapping values"),
        ("a:\n\t- b", "\\t"),
        ("a: 'x\nb: 1\n", "end of stream"),
        ("a: *x", "anchored"),
        ("a: &x [*x]", "inside"),
        ("a: 1\n---\nb: 2\n", "second document"),
        ("%YAML 1.1\n---\na: yes\n", "YAML 1.2"),
        ("a: {b: 1}\nc:\n  <<: 1\n", "<<"),
        ("? [a]\n: b\n", "key must be a text"),
        ("a: .inf", "out of bounds"),
        ("a: 99999999999999999999", "out of bounds"),
        ("a: " + "9" * 5000, "out of bounds"),
        ("a: \x00", "U+0000"),
        ("[" * 1000, "deep"),
        ("- " * 1000, "deep"),
        ("- b\n" * 25_000, "values"),
    ],
)
def test_what_is_not_plain_yaml_is_named_with_its_place(text: str, words: str) -> None:
    fault = faults_of(text)[0]
    assert words in fault.message
    assert fault.line is not None
    assert fault.column is not None


def test_a_bomb_is_refused_before_it_is_expanded() -> None:
    lines = ["a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [
        f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]" for old, new in zip("abcdefghi", "bcdefghij", strict=True)
    ]
    (fault,) = faults_of("\n".join(lines))
    assert f"{MOST_ALIASED:,}" in fault.message


def test_aliases_cannot_nest_deeper_than_the_file_could() -> None:
    deep = "[" * (MOST_DEPTH - 5) + "]" * (MOST_DEPTH - 5)
    (fault,) = faults_of(f"a: &a {deep}\nb: &b [[[*a]]]\nc: [[[*b]]]\n")
    assert "deep" in fault.message


def test_exactly_as_many_aliased_values_as_allowed_are_read() -> None:
    text = "a: &a [" + "1, " * (MOST_ALIASED - 2) + "1]\nb: *a\n"
    assert not parse_source(text).faults
    assert faults_of(text + "c: *a\n")


def test_a_huge_file_is_refused_by_its_size(tmp_path: Path) -> None:
    path = tmp_path / "huge.yaml"
    path.write_bytes(b"- [" * (10 * MOST_BYTES // 3))
    started = time.perf_counter()
    with pytest.raises(ScenarioError, match="bytes"):
        read_source(path)
    assert time.perf_counter() - started < 1


def test_a_file_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    (tmp_path / "good.yaml").write_text("goal: x")
    (tmp_path / "latin.yaml").write_bytes(b"goal: x\ndescription: caf\xe9\n")
    (tmp_path / "wide.yaml").write_bytes("goal: x".encode("utf-16"))
    os.mkfifo(tmp_path / "pipe.yaml")
    for name, words in [
        ("none.yaml", "no such file"),
        ("nowhere/none.yaml", "no such file"),
        ("", "folder"),
        ("pipe.yaml", "regular"),
        ("latin.yaml", r"latin\.yaml:2:17: this is not UTF-8 \(byte 0xe9\)"),
        ("wide.yaml", "UTF-16"),
        ("x" * 300, "cannot be read"),
        ("a\0b", "cannot be read"),
    ]:
        with pytest.raises(ScenarioError, match=words) as raised:
            read_source(tmp_path / name)
        assert raised.value.faults[0].kind == "file"


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is unreadable for root")
def test_an_unreadable_file_says_so(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("goal: x")
    path.chmod(0)
    with pytest.raises(ScenarioError, match="Permission denied"):
        read_source(path)


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(b"\xef\xbb\xbfgoal: x")
    assert read_source(path).data == {"goal": "x"}


def test_no_error_shows_a_value_whole_or_its_control_characters() -> None:
    long = "x" * 5000
    for text in (f"a: *{long}", f"{long}: 1\n{long}: 2\n", f"a: !{long} b", f'"\\e[31m\\u202e{long}": 1\n' * 2):
        for fault in faults_of(text):
            assert len(str(fault)) < 400
            assert str(fault).replace("\n", "").isprintable()
    assert (
        cut("a\x1b[31m\u202eb\n") == "a\N{REPLACEMENT CHARACTER}[31m\N{REPLACEMENT CHARACTER}b\N{REPLACEMENT CHARACTER}"
    )


@settings(max_examples=200)
@given(st.text(st.sampled_from("ab01 \n:-[]{},&*!|>'\"%#?@`\\~<.\t\u202e\x85"), max_size=60))
def test_any_text_is_data_or_a_scenario_error(text: str) -> None:
    faults_of(text)


_PLAIN = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**63) + 1, 2**63 - 1), st.text(st.characters(codec="ascii"))),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text("abc", min_size=1), inner, max_size=4)
    ),
    max_leaves=10,
)


@settings(max_examples=100)
@given(_PLAIN)
def test_json_is_read_as_what_it_says(value: object) -> None:
    import json  # noqa: PLC0415

    assert parse_source(json.dumps(value)).data == value
