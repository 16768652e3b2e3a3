"""What can go wrong where agents work.

AgentsError
├── ToolFailed          a tool could not do it; the text goes back to the model, which may mend it
│   └── ToolRefused     it may not: path, host or grant
├── SandboxUnavailable  no usable sandbox; says why and what to install
├── TryFailed           one try of a model call came to nothing (`agents/model.py`)
├── ModelUnavailable    a model cannot be had at all: key, name, endpoint; the run pauses
│   └── NoSuchModel     what was written names none
├── BadCriterion        an `accept` entry that no check understands
├── CheckBroken         a check could not be made: no fault of what was checked
├── WorkEnded           base of what ends an attempt from within `ctx`
│   ├── AnswerUnusable  the model's answer could not be used, also after the repair
│   ├── ModelFailed     the tries of a model call are used up
│   ├── StuckRepeating  the same call with the same answer again, after it was told
│   └── RunMustPause    a part is missing without which nothing goes on; a person must act
│       └── InDoubt     nobody knows whether an outward call was done; a person decides
└── Diverged            the role did something else than its journal says
"""


class AgentsError(Exception):
    """Base of all that `agents` raises; its text is for people and models."""


class ToolFailed(AgentsError):
    """The tool could not do it."""


class ToolRefused(ToolFailed):
    """The tool may not do it."""


class TooMuchWritten(ToolFailed):
    """The tool left more in the folder than it may; what it left is taken back, so that others can go on there."""


class SandboxUnavailable(AgentsError):
    """No usable sandbox. `remedy` says what to do."""

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(f"{reason} {remedy}")
        self.reason = reason
        self.remedy = remedy


class BadCriterion(AgentsError):
    """An `accept` entry that no check understands; `field` names the key at fault."""

    def __init__(self, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class CheckBroken(AgentsError):
    """A check could not be made: no fault of what was checked."""


class ModelUnavailable(AgentsError):
    """A model cannot be had at all. `remedy` says what to do."""

    def __init__(self, reason: str, remedy: str = "") -> None:
        super().__init__(f"{reason} {remedy}".strip())
        self.reason = reason
        self.remedy = remedy


class NoSuchModel(ModelUnavailable):
    """What was written is no `provider:name`, or of a provider that nobody knows."""


class WorkEnded(AgentsError):
    """Ends an attempt from within `ctx`."""


class AnswerUnusable(WorkEnded):
    """The model's answer could not be used; `kind` as in `agents/dialogue.py`, such as `refused` or `cut`."""

    def __init__(self, message: str, *, kind: str = "answer") -> None:
        super().__init__(message)
        self.kind = kind


class ModelFailed(WorkEnded):
    """The tries of a model call are used up. Not `retryable`: another attempt would fail the same way."""

    def __init__(self, message: str, *, retryable: bool) -> None:
        super().__init__(message)
        self.retryable = retryable


class RunMustPause(WorkEnded):
    """A part is missing without which nothing goes on."""


class InDoubt(RunMustPause):
    """Nobody knows whether an outward call was done."""


class StuckRepeating(WorkEnded):
    """The same call with the same answer again."""


class Diverged(AgentsError):
    """The role did something else than its log says; `at`: which of its attempt's recorded effects, from 0."""

    def __init__(self, at: int, message: str) -> None:
        super().__init__(message)
        self.at = at
