"""How a request is put into words."""

from agents.prompts import MOST_FILES, file_list

SOURCES = [f"src/shelf/part{number}.py" for number in range(20)]


def test_files_are_named_one_a_line() -> None:
    assert file_list(["b/c.py", "a.py", "b.py"]) == "a.py\nb.py\nb/c.py"
    assert file_list(SOURCES) == "\n".join(sorted(SOURCES))
    assert file_list([]) == ""


def test_of_too_many_files_those_that_are_deepest_are_told_by_their_folder() -> None:
    papers = [f"docs/{kind}/{number}.md" for kind in ("api", "guide") for number in range(90)]
    told = file_list([*papers, *SOURCES, "README.md"]).split("\n")
    assert told == ["README.md", "docs/api/ (90 files)", "docs/guide/ (90 files)", *sorted(SOURCES)]


def test_what_does_not_fit_even_so_is_counted() -> None:
    told = file_list([f"{number:03}.md" for number in range(100)]).split("\n")
    assert told[:MOST_FILES] == [f"{number:03}.md" for number in range(MOST_FILES)]
    assert told[MOST_FILES:] == ["… and 60 more"]
