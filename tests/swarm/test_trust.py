from pathlib import Path

import pytest

from swarm.scenario.may import may
from swarm.scenario.model import Scenario
from swarm.scenario.trust import content_hash, file_hashes, is_trusted, store_path, trust


@pytest.fixture
def scenario(tmp_path: Path) -> Scenario:
    (tmp_path / "editor.py").write_text("import helper\n\nclass Editor: ...\n")
    (tmp_path / "helper.py").write_text("x = 1\n")
    (tmp_path / "coder.md").write_text("You code.")
    roles = {"editor": {"uses": "./editor.py:Editor"}, "coder": {"prompt": "./coder.md"}}
    endpoints = {"lab": {"url": "https://lab.example/v1", "key": "LAB_KEY"}}
    return Scenario.from_dict({"goal": "x", "roles": roles, "endpoints": endpoints}, folder=tmp_path)


def test_a_scenario_without_code_or_servers_needs_no_trust() -> None:
    assert content_hash(Scenario.from_dict({"goal": "x"})) is None


def test_the_hash_changes_with_the_code_and_with_what_the_code_imports(scenario: Scenario, tmp_path: Path) -> None:
    hashes = {content_hash(scenario)}
    (tmp_path / "helper.py").write_text("x = 2\n")
    hashes.add(content_hash(scenario))
    (tmp_path / "editor.py").write_text("import helper\n\nclass Editor: pass\n")
    hashes.add(content_hash(scenario))
    assert len(hashes) == 3
    assert None not in hashes
    (tmp_path / "coder.md").write_text("You code well.")
    assert content_hash(scenario) in hashes


def test_the_hash_changes_with_an_endpoint(scenario: Scenario, tmp_path: Path) -> None:
    other = {"lab": {"url": "https://lab.example/v1", "key": "OPENAI_API_KEY"}}
    roles = {"editor": {"uses": "./editor.py:Editor"}}
    assert content_hash(
        Scenario.from_dict({"goal": "x", "roles": roles, "endpoints": other}, folder=tmp_path)
    ) != content_hash(scenario)


def test_the_hash_changes_with_what_a_class_of_its_own_is_made_with(scenario: Scenario) -> None:
    editor = {"uses": "./editor.py:Editor", "with": {"command": "rm"}}
    made = Scenario.from_dict({"goal": "x", "roles": {"editor": editor}}, folder=scenario.folder)
    del editor["with"]
    plain = Scenario.from_dict({"goal": "x", "roles": {"editor": editor}}, folder=scenario.folder)
    assert content_hash(made) != content_hash(plain)
    assert (may(made)["given"], may(plain)["given"]) == ({"editor": {"command": "rm"}}, {})


def test_an_interpreter_that_a_scenario_names_is_code_wherever_its_path_leads(tmp_path: Path) -> None:
    folder = tmp_path / "stranger"
    folder.mkdir()
    elsewhere = tmp_path / "evil"
    elsewhere.write_text("#!/bin/sh\n")
    named = Scenario.from_dict({"goal": "x", "sandbox": {"python": str(elsewhere)}}, folder=folder)
    before = content_hash(named)
    assert before is not None
    assert may(named)["code"] == [str(elsewhere)]
    elsewhere.write_text("#!/bin/sh\ncat ~/.ssh/id_rsa\n")
    assert content_hash(named) != before
    assert content_hash(Scenario.from_dict({"goal": "x", "sandbox": {"python": "python3"}}, folder=folder)) is None


def test_files_from_outside_of_the_folder_are_asked_for_also_behind_a_link(tmp_path: Path) -> None:
    folder = tmp_path / "stranger"
    (folder / "own").mkdir(parents=True)
    (tmp_path / "private").mkdir()
    (tmp_path / "role.md").write_text("You code.")
    (folder / "link").symlink_to(tmp_path / "private")

    def asked(**more: object) -> str | None:
        return content_hash(Scenario.from_dict({"goal": "x", **more}, folder=folder))

    assert asked(workspace="./own") is None
    hashes = {
        asked(workspace="../private"),
        asked(workspace=["./own", str(tmp_path)]),
        asked(roles={"coder": {"prompt": "../role.md"}}),
    }
    assert None not in hashes
    assert len(hashes) == 3
    assert asked(workspace="./link") == asked(workspace="../private")


def test_the_scenario_its_prompts_and_its_code_are_hashed_by_name(scenario: Scenario, tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("goal: x\nroles: {coder: {prompt: ./coder.md}}\n")
    assert list(file_hashes(Scenario.load(tmp_path / "x.yaml"))) == ["x.yaml", "coder.md"]
    assert list(file_hashes(scenario)) == ["editor.py", "helper.py", "coder.md"]


def test_schemas_are_hashed_by_name_and_one_from_outside_is_asked_for(tmp_path: Path) -> None:
    folder = tmp_path / "stranger"
    folder.mkdir()
    schema = {"goal": "x", "accept": [{"json": "a.json", "schema": "s.json"}]}
    (folder / "s.json").write_text("{}")
    scenario = Scenario.from_dict(schema, folder=folder)
    assert list(file_hashes(scenario)) == ["s.json"]
    assert content_hash(scenario) is None
    (folder / "s.json").rename(tmp_path / "s.json")
    (folder / "s.json").symlink_to(tmp_path / "s.json")
    assert content_hash(Scenario.from_dict(schema, folder=folder)) is not None


def test_a_hash_is_trusted_once_it_was_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    assert store_path() == tmp_path / "config" / "eventswarm" / "trusted"
    assert not is_trusted("a" * 64)
    trust("a" * 64, "market\nbrief")
    trust("b" * 64)
    assert is_trusted("a" * 64)
    assert is_trusted("b" * 64)
    assert not is_trusted("brief")
    assert not is_trusted("c" * 64)
    assert store_path().stat().st_mode & 0o777 == 0o600
    assert store_path().parent.stat().st_mode & 0o777 == 0o700


def test_a_store_that_others_could_have_written_says_no(tmp_path: Path) -> None:
    store = tmp_path / "trusted"
    trust("a" * 64, store=store)
    store.chmod(0o666)
    assert not is_trusted("a" * 64, store)


def test_a_relative_configuration_home_is_ignored(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", "here")
    assert store_path() == tmp_path / ".config" / "eventswarm" / "trusted"
