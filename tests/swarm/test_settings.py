from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm.errors import UsageError
from swarm.settings import read_env_file, read_settings


def beside(folder: Path, text: str) -> Path:
    (folder / ".env").write_text(text, encoding="utf-8")
    return folder


def test_the_environment_alone_is_enough(tmp_path: Path) -> None:
    settings = read_settings({"SWARM_HOME": "/state", "OPENAI_API_KEY": "sk-1"}, tmp_path)
    assert (settings.home, settings.openai_key, settings.openai_url) == (Path("/state"), "sk-1", None)
    assert read_settings({}).home == Path(".swarm")


def test_a_file_adds_and_never_overrides(tmp_path: Path) -> None:
    folder = beside(tmp_path, "SWARM_MODEL=openai:a\nLAB_KEY=from-file\nOTHER=x\n")
    settings = read_settings({"SWARM_MODEL": "openai:b", "OTHER": ""}, folder)
    assert settings.model == "openai:b"
    assert (settings.env["LAB_KEY"], settings.env["OTHER"]) == ("from-file", "")


@pytest.mark.parametrize(
    ("environ", "text", "key", "url"),
    [
        ({}, "OPENAI_BASE_URL=http://f/v1\nOPENAI_API_KEY=sk-f", "sk-f", "http://f/v1"),
        ({}, "OPENAI_BASE_URL=http://f/v1", None, None),
        ({"OPENAI_API_KEY": "sk-e"}, "OPENAI_BASE_URL=http://f/v1", "sk-e", None),
        ({"OPENAI_API_KEY": "sk-e"}, "OPENAI_BASE_URL=http://f/v1\nOPENAI_API_KEY=sk-f", "sk-e", None),
        ({"OPENAI_BASE_URL": "http://e/v1"}, "OPENAI_API_KEY=sk-f", "sk-f", "http://e/v1"),
    ],
)
def test_a_url_from_a_file_counts_only_with_a_key_from_it(
    tmp_path: Path, environ: dict[str, str], text: str, key: str | None, url: str | None
) -> None:
    settings = read_settings(environ, beside(tmp_path, text))
    assert (settings.openai_key, settings.openai_url) == (key, url)
    assert settings.env.get("OPENAI_BASE_URL") == url


def test_keys_are_not_shown(tmp_path: Path) -> None:
    shown = repr(read_settings({"OPENAI_API_KEY": "sk-canary", "LAB_KEY": "lab-canary"}, tmp_path))
    assert "canary" not in shown


def test_the_usual_ways_to_write_a_value_are_understood(tmp_path: Path) -> None:
    lines = [
        "# a comment",
        "",
        "export A = plain words # told",
        "B='as it $is' # told",
        'C="two\\nlines \\""',
        "D=",
        "E=a#b",
        "no line",
    ]
    folder = beside(tmp_path, "\n".join(lines))
    found, unread = read_env_file(folder / ".env")
    assert found == {"A": "plain words", "B": "as it $is", "C": 'two\nlines "', "D": "", "E": "a#b"}
    assert unread == (f"{folder / '.env'}:8",)


def test_a_file_that_cannot_be_read_is_told_and_no_error(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"\xff\xfe")
    assert read_env_file(tmp_path / ".env")[1][0].startswith(str(tmp_path))
    (tmp_path / ".env").write_bytes(b"A=" + b"x" * 70_000)
    assert read_env_file(tmp_path / ".env") == ({}, (f"{tmp_path / '.env'}: larger than 64 KiB",))


@given(st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"], exclude_characters="'"), max_size=40))
def test_what_stands_between_quotes_comes_back_as_it_is(value: str) -> None:
    import tempfile  # noqa: PLC0415

    with tempfile.TemporaryDirectory() as name:
        found, unread = read_env_file(beside(Path(name), f"KEY='{value}'\n") / ".env")
    assert (found, unread) == ({"KEY": value}, ())


def test_where_runs_are_kept_is_named_by_no_file_of_a_scenario(tmp_path: Path) -> None:
    settings = read_settings({}, beside(tmp_path, "SWARM_HOME=/elsewhere\nSWARM_STORE=postgresql://elsewhere/runs\n"))
    assert (settings.home, settings.place) == (Path(".swarm"), Path(".swarm"))


def test_a_store_is_on_a_server_and_named_by_no_file_of_a_scenario(tmp_path):
    (tmp_path / ".env").write_text("SWARM_STORE=postgresql://elsewhere/runs\n")
    assert read_settings({}, tmp_path).place == Path(".swarm")
    settings = read_settings({"SWARM_STORE": "postgresql://u:secret@db/runs"}, tmp_path)
    assert settings.place == "postgresql://u:secret@db/runs"
    assert "secret" not in repr(settings)
    with pytest.raises(UsageError, match="names no server"):
        read_settings({"SWARM_STORE": "runs.db"})
