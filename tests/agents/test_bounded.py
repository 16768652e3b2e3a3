import asyncio
import os
import re
import signal
import time
import warnings
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.checking import bounded, regex_search


def test_a_function_of_another_process_answers() -> None:
    assert bounded.call("agents.checking.regex_search:found", "b$", ["a", "b", "ab"], 9, timeout_s=20) == [
        [1, 0],
        [2, 1],
    ]
    assert bounded.call("os:getpid", timeout_s=20) != os.getpid()


def test_the_child_sees_nothing_of_our_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAB_KEY", "secret")
    assert bounded.call("os:getenv", "LAB_KEY", timeout_s=20) is None


def test_a_function_that_takes_too_long_is_killed() -> None:
    begun = time.monotonic()
    with pytest.raises(bounded.NoAnswer, match=r"longer than 0\.2 s"):
        bounded.call("time:sleep", 60, timeout_s=0.2)
    assert time.monotonic() - begun < 10


def test_a_function_that_takes_too_much_memory_or_fails_gives_its_reason() -> None:
    with pytest.raises(bounded.NoAnswer, match="MemoryError"):
        bounded.call("operator:mul", [0], 10**10, timeout_s=20)
    with pytest.raises(bounded.NoAnswer, match="ZeroDivisionError"):
        bounded.call("operator:truediv", 1, 0, timeout_s=20)
    with pytest.raises(bounded.NoAnswer, match="status 3"):
        bounded.call("os:_exit", 3, timeout_s=20)


async def test_a_function_asked_without_a_thread_answers_likewise() -> None:
    assert await bounded.ask("operator:add", "ä", "\ud800", timeout_s=20) == "ä\ud800"
    assert await bounded.ask("os:getenv", "PATH", timeout_s=20) is None
    with pytest.raises(bounded.NoAnswer, match=r"longer than 0\.2 s"):
        await bounded.ask("time:sleep", 60, timeout_s=0.2)
    with pytest.raises(bounded.NoAnswer, match="ZeroDivisionError"):
        await bounded.ask("operator:truediv", 1, 0, timeout_s=20)
    with pytest.raises(bounded.NoAnswer, match="ModuleNotFoundError"):
        await bounded.ask("pytest:main", timeout_s=20)
    assert await bounded.ask("pytest:console_main.__name__.upper", timeout_s=60, packages=True) == "CONSOLE_MAIN"


async def test_who_is_cancelled_while_it_asks_leaves_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[asyncio.subprocess.Process] = []

    async def begin(*command: str, **options: Any) -> asyncio.subprocess.Process:
        begun.append(await start(*command, **options))
        return begun[-1]

    start = asyncio.create_subprocess_exec
    monkeypatch.setattr("asyncio.create_subprocess_exec", begin)
    asking = asyncio.create_task(bounded.ask("time:sleep", 60, timeout_s=60))
    while not begun:
        await asyncio.sleep(0.01)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert begun[0].returncode == -signal.SIGKILL


def test_the_first_matches_are_found_and_no_more() -> None:
    assert regex_search.search("a", ["a", "b", "a", "a"], limit=2) == [(0, 0), (2, 0)]
    assert regex_search.search("^b", ["a\nb", "ab"], limit=2) == [(0, 2)]


@pytest.mark.parametrize("pattern", ["(", "a{99999999999}", "(" * 900, "x" * 1_001, "", "(?<=a*)b"])
def test_what_is_no_usable_expression_is_said(pattern: str) -> None:
    assert regex_search.fault(pattern)


@pytest.mark.parametrize(
    "pattern",
    [
        "(?i)" + "[ -\U0010ffff]" * 199,
        "[ -\uffff]" * 199,
        r"(?i)[\x20-\U0010ffff]",
        r"[\040-\uffff][\0-\ufff0]",
        r"(?i)[\N{SPACE}-\N{PLAYING CARD ACE OF SPADES}]",
    ],
    ids=["sets of all", "sets of the first plane", "hexadecimal", "octal", "names"],
)
def test_an_expression_that_takes_long_to_be_compiled_is_none(pattern: str) -> None:
    begun = time.process_time()
    assert "span more than" in (regex_search.fault(pattern) or "")
    assert time.process_time() - begun < 0.2
    for ordinary in (
        r"[^\x00-\x7f]",
        "[\u4e00-\u9fff]+的[一-鿿]",
        "[a-zA-Z0-9_-]+@[a-z-]",
        r"[\-\uffff]",
        r"\d-\d{3}-\N{EN DASH}",
    ):
        assert regex_search.fault(ordinary) is None


@given(st.text(alphabet="\\\\\\xuUN{}[]-(?i)|*0189af \n٣"))
def test_any_text_is_an_expression_or_said_to_be_none(pattern: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # usable all the same, see below
        assert regex_search.fault(pattern) or re.compile(pattern)


def test_an_expression_that_python_warns_about_is_usable() -> None:
    assert regex_search.fault("[[a]") is None
    with pytest.warns(FutureWarning):
        re.compile("[[a]")
