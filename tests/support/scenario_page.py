"""docs/scenario.md: the keys of a scenario file, as the code describes them."""

import inspect
from typing import Any

from agents.roles import ROLES
from agents.tool import Tool
from agents.tools import TOOLS
from bus import lookup
from swarm.scenario import file
from swarm.scenario.rules import BUILT_IN_TOOLS, GRANTED_ONLY

_HEAD = """\
# The scenario file

<!-- Made from swarm/scenario/file.py and the tables of roles and tools by `make docs`; do not edit. -->

A scenario says what is to be reached, what the outcome must hold, and what agents may use on the way. It is YAML 1.2;
an unknown key is an error, with the line and what may have been meant. `swarm check FILE` says whether one is good and
what it may do, `swarm init` writes one to begin with, and `swarm schema` prints its JSON Schema for an editor: with the
comment `# yaml-language-server: $schema=…`, many complete keys and show the texts below.

```yaml
goal: Write summary.md, at most ${{ inputs.words }} words, of the notes in the project.
inputs:
  words: {default: "200", description: how long it may be}
workspace: ./notes
roles:
  researcher: {agents: 3}
  editor: {uses: ./editor.py:Editor, with: {style: plain}, tools: [read_file, write_file]}
accept:
  - text: summary.md
    max_words: ${{ inputs.words }}
    contains: ["re:(?i)budget"]
  - ask: Every figure in summary.md stands in the notes.
limits: {time: 10m, tokens: 150k, money: 0.50 USD}
```

Times are `30s`, `10m`, `2h`; counts may end in `k` or `M`; money is in `USD`. Relative paths begin at the file's
folder.

`${{ inputs.NAME }}` stands for what the person gave by `--set NAME=…`. Into a command it does not go, since it could
become part of it: write `"$INPUT_NAME"` there. `$${{` stands for `${{` itself. `--set limits.tokens=300k` changes any
other key for one run, and `--goal` the goal.

The workspace is copied as the run begins, at most 10,000 files and 256 MiB: `./notes` lies at `notes/` in the project,
what is in `.` at its root. Links, `.git`, `.swarm` and `.env*` stay out, and so does what the file `.swarmignore` in
such a folder names, one pattern a line. A check's JSON Schema that lies beside the scenario is taken in then, too, and
goes before a file of the same path in the project: no agent writes what it is measured by.

The workspace is copied without links, empty folders, `.env*`, `.git`, caches such as `__pycache__`, folders `./RUN` of
what earlier runs handed over, and what a file `.swarmignore` names that lies in the folder named: a pattern a line, as
in `.gitignore`, but without `!`. Of a file only path and content are known: what begins with `#!/`, or is a binary, can
be run wherever it is laid out.

Over a bus (`swarm submit`) nothing of one's own code travels: a role that agents bring is only named by the subtasks of
`plan:`, without an entry that `uses:` something. `swarm check` cannot know it; `swarm submit` says whether it is there.
"""

_ACCEPT = """\
## `accept`

Of the whole, or of a subtask: what must hold, checked in this order; the critic's model is asked last, and only where
the rest holds. Each entry is one of these.
"""

_THERE = """\
## Roles and tools that are there

`tools:` under a role stands in the place of its own. How to write others: [roles.md](roles.md).
"""

_SCRIPTED = """\
## Answers from a file

`model: scripted:answers.yaml` is a model that costs nothing: a list of entries, each used once. The first unused one
answers whose `role` is the asking one and whose `when`, a regular expression, is found in what it was asked.

```yaml
- {role: planner, json: {subtasks: [{id: notes, role: coder, do: Write notes.md.}]}}
- {role: coder, call: {tool: write_file, arguments: {path: notes.md, content: "All is well.\\n"}}}
- {role: coder, reply: It is written.}
- {role: critic, json: {reasons: It is there., accepted: true}}
- {when: never asked, fail: 429}
```

`reply` is a text, `json` an object, `call` one tool call or a list of them, `fail` an HTTP status; `usage: {input: 100,
output: 5}` says what it is counted as. `model: recorded:run.jsonl` answers from a run's own log.
"""


def scenario_page() -> str:
    """Return docs/scenario.md."""
    schema = file.schema()
    parts = [_HEAD]
    for path, section in file.SECTIONS.items():
        title = ".".join(part.replace("*", "NAME") for part in path).replace("plan.NAME", "plan[]")
        described = schema if section is file.ScenarioFile else schema["$defs"][section.__name__]
        parts.append(f"## {f'`{title}`' if title else 'Keys'}\n\n{inspect.getdoc(section)}\n\n{_table(described)}")
    parts.append(_ACCEPT)
    for name in ("FileCriterion", "TextCriterion", "JsonCriterion", "RunCriterion", "AskCriterion"):
        described = schema["$defs"][name]
        parts.append(f"{described['description']}\n\n{_table(described)}")
    parts += [_THERE, _roles(), _tools(), _SCRIPTED]
    return "\n".join(parts).rstrip() + "\n"


def _roles() -> str:
    """Return the roles that are always there, with the tools that each has."""
    rows = ["| role | what it is for | its own tools |", "| --- | --- | --- |"]
    for name, place in ROLES.items():
        tools = ", ".join(f"`{tool}`" for tool in BUILT_IN_TOOLS[name]) or "none"
        rows.append(f"| `{name}` | {lookup.load(place, {}).about()} | {tools} |")
    return "\n".join(rows) + "\n"


def _tools() -> str:
    """Return our tools by the first sentence of what models are told of them."""
    rows = ["| tool | what it does |", "| --- | --- |"]
    for name, place in TOOLS.items():
        tool = lookup.load(place, {})
        assert isinstance(tool, Tool)
        granted = " Only where a scenario grants it." if name in GRANTED_ONLY else ""
        told = " ".join(tool.description.split()).partition(". ")[0].removesuffix(".")
        rows.append(f"| `{name}` | {told}.{granted} |")
    return "\n".join(rows) + "\n"


def _table(section: dict[str, Any]) -> str:
    needed = section.get("required", ())
    rows = ["| key | value | meaning |", "| --- | --- | --- |"]
    for name, about in section["properties"].items():
        must = " Must be there." if name in needed else ""
        rows.append(f"| `{name}` | {_value(about)} | {about['description']}{must} |")
    return "\n".join(rows) + "\n"


def _value(about: dict[str, Any]) -> str:
    """Return in words what may stand there."""
    if "enum" in about:
        return " or ".join(f"`{one}`" for one in about["enum"])
    if "anyOf" in about:
        kinds = dict.fromkeys(_value(one) for one in about["anyOf"])
        return "count" if "integer" in kinds and len(kinds) > 1 else " or ".join(kinds)
    if "examples" in about:
        return ", ".join(f"`{one}`" for one in about["examples"])
    if about.get("type") == "array":
        return "list"
    if "$ref" in about or about.get("type") == "object":
        return "mapping"
    return {"string": "text"}.get(about.get("type", ""), about.get("type", "any"))
