"""What lies where: the top level, whose packages are imported, maps that are true, and a wheel with all of it."""

import ast
import importlib
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("bus", "agents", "swarm")
TOP_LEVEL = {
    ".ci",
    ".gitignore",
    ".pre-commit-config.yaml",
    "CHANGELOG.md",
    "LICENSE",
    "Makefile",
    "README.md",
    "THIRD_PARTY.md",
    "agents",
    "benchmarks",
    "bus",
    "deploy",
    "docs",
    "examples",
    "pyproject.toml",
    "scenarios",
    "swarm",
    "tests",
}
MOST_LINES = 600
"""Nothing of ours comes near: a module beyond this is more than one concept."""
MANY_LINES = 250


def tracked() -> list[str]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode:
        pytest.skip("this is no checkout")
    return [name for name in listed.stdout.decode().split("\0") if name and (ROOT / name).exists()]


def modules() -> list[Path]:
    return [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


def test_the_top_level_holds_what_it_should_and_nothing_else():
    assert {name.partition("/")[0] for name in tracked()} == TOP_LEVEL


@pytest.mark.parametrize("name", PACKAGES)
def test_the_packages_that_are_imported_are_ours(name):
    assert Path(importlib.import_module(name).__file__).parent == ROOT / name


@pytest.mark.parametrize("name", PACKAGES)
def test_each_package_is_marked_as_typed(name):
    assert (ROOT / name / "py.typed").is_file()


@pytest.mark.parametrize(
    "init", [path for path in modules() if path.name == "__init__.py"], ids=lambda path: path.parent.name
)
def test_files_that_a_package_map_names_are_there(init):
    told = ast.get_docstring(ast.parse(init.read_text()))
    assert told, "a package's docstring is its map"
    folders = [init.parent, *(init.parent / name for name in re.findall(r"\b(\w+)/", told)), init.parents[1]]
    for name in re.findall(r"\b[a-z_]\w*\.(?:py|md)\b", told):
        assert any((folder / name).is_file() for folder in folders), f"{name} is not in {init.parent.name}/"
    for name in re.findall(r"(?<![\w/`])(\w+)/(?!\w)", told):
        assert (init.parent / name).is_dir(), f"{name}/ is not in {init.parent.name}/"


@pytest.mark.parametrize("package", [*PACKAGES, "swarm/core"])
def test_a_package_map_names_each_of_its_modules(package):
    told = ast.get_docstring(ast.parse((ROOT / package / "__init__.py").read_text()))
    names = {path.name for path in (ROOT / package).glob("*.py")} - {"__init__.py", "__main__.py"}
    assert not {name for name in names if not re.search(rf"\b{re.escape(name)}", told)}


def test_no_file_names_a_place_of_one_machine():
    places = re.compile(r"(?<![\w.-])/(?:root|work|home/[a-z]\w+)/[\w.]|\b(?:[a-z0-9-]+\.)+internal\b(?!\.)")
    found = []
    for name in tracked():
        try:
            text = (ROOT / name).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        found += [f"{name}: {match.group()}" for match in places.finditer(text) if name not in MAY_NAME_PLACES]
    assert not found


MAY_NAME_PLACES = {
    "tests/test_layout.py",  # the pattern itself
}


def test_a_module_is_one_concept(record_property):
    sizes = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in modules()}
    many = {name: lines for name, lines in sizes.items() if lines > MANY_LINES}
    record_property("modules above 250 lines", many)
    print(f"\n{len(sizes)} modules, {sum(sizes.values())} lines; above {MANY_LINES}:", many)
    assert not {name: lines for name, lines in many.items() if lines > MOST_LINES}


def test_all_that_swarm_offers_is_what_type_checkers_see():
    swarm = importlib.import_module("swarm")
    tree = ast.parse((ROOT / "swarm/__init__.py").read_text())
    seen = {alias.name for node in ast.walk(tree) if isinstance(node, ast.If) for statement in node.body
            if isinstance(statement, ast.ImportFrom) for alias in statement.names}  # fmt: skip
    assert seen == set(swarm.__all__) == set(dir(swarm))
    for name in swarm.__all__:
        assert getattr(swarm, name) is not None


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(folder)]
    made = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    return folder


def test_a_wheel_holds_code_prompts_scenarios_and_nothing_else(built):
    (wheel,) = built.glob("*.whl")
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    ours = {name for name in tracked() if name.startswith(tuple(f"{package}/" for package in PACKAGES))}
    scenarios = {f"swarm/_{name}" for name in tracked() if name.startswith("scenarios/")}
    assert {"agents/py.typed", "bus/py.typed", "swarm/py.typed", "agents/roles/planner.md"} <= names
    assert names == ours | scenarios


def test_a_source_distribution_holds_what_a_wheel_is_built_from(built):
    (source,) = built.glob("*.tar.gz")
    with tarfile.open(source) as tar:
        names = {name.partition("/")[2] for name in tar.getnames()}
    assert {name for name in tracked() if not name.startswith((".ci/", ".pre"))} <= names | {".gitignore"}


def test_the_distribution_says_what_it_is():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["name"] == "eventswarm"
    assert project["requires-python"] == ">=3.11"
    assert project["license"] == "Apache-2.0"
    assert set(project["scripts"]) == {"swarm"}
    assert set(project["optional-dependencies"]) == {"bwrap", "dev", "local", "postgres", "web"}
