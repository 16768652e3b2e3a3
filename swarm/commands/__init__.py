"""The commands by name, one file each: `SUMMARY`, `EXAMPLES`, `add_arguments(parser)` and `run(args)`.

Each `run` returns the exit status; what goes wrong is raised and told by `failures.py`. A command imports what it works
with inside `run`, so that `--help` and a typing error cost nothing.

failures.py  errors as messages, JSON and exit statuses
watching.py  a run carried on to its end, stoppable by Ctrl-C · following.py  one that a hub carries on
report.py  what a run came to, in words
shipped.py   the scenarios that come with us · consent.py  whether a person trusts a scenario's code
asking.py    what a person is asked on a terminal
granted.py   what a scenario may do, in lines · choices.py  its models · dry_run.py  both, and nothing started
looking.py   a run as it stands · remote.py  one that is with a hub · serving.py  what serves until it is stopped
arguments.py what several commands take
"""

_NAMES = (
    "run submit hub attach agents resume pause cancel fork check runs show log replay diff rm gc export import doctor "
    "broker scenarios schema init setup"
)
_MODULES = {"import": "import_run"}
"""Where a module cannot have the command's name."""

COMMANDS: dict[str, str] = {name: f"swarm.commands.{_MODULES.get(name, name)}" for name in _NAMES.split()}
