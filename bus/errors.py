"""What can go wrong below the agents.

BusError
├── BadEnvelope        bytes that are no envelope of ours, or of a version we cannot read
│   └── TooLarge       a message of more bytes than the bus carries
├── BadAddress         the address of a broker, or of what belongs to it, that cannot be understood
├── BusUnavailable     no broker answers, it refuses us, or the connection to it was lost for too long
├── NotAllowed         the broker does not let us write to a topic, or read it
├── Refused            a hub does not take a file from us
│   └── NotHeld        … since the lease or run is not ours any more
├── BadArchive         a file that holds no run, or not all of it, or more than it may
├── NotFound           a short name, run, record or file that is not there
└── LogError
    ├── Conflict       somebody else wrote this run: expected position or epoch differ
    ├── Damaged        the chain of hashes or the numbering is broken at a position
    ├── TooNew         written by a newer version of this software
    └── StorageFailed  the disk said no; whether the batch is in the log is known once it is opened again
"""

import errno


class BusError(Exception):
    """Base of all that `bus` raises; its text is for people."""


class BadEnvelope(BusError):
    """Bytes that are no envelope of ours."""


class TooLarge(BadEnvelope):
    """A message of more bytes than the bus carries."""


class BadAddress(BusError):
    """An address of a broker that cannot be understood, or names a file that is not there."""


class BusUnavailable(BusError):
    """No broker answers, it refuses us, or the connection was lost for too long. Its text says what to do."""


class NotAllowed(BusError):
    """The broker does not let us write to a topic, or read it; the text names it."""


class Refused(BusError):
    """A hub does not take a file from us; the text has its reason."""


class NotHeld(Refused):
    """A hub takes no file under a lease or run that is not ours any more."""


class BadArchive(BusError):
    """A file that is no archive of a run, or a spoilt one; or a run that is too large for one."""


class NotFound(BusError):
    """A short name, a run, a record or a file that is not there."""


class LogError(BusError):
    """Base of the event log's errors."""


class Conflict(LogError):
    """Another writer owns this run, or wrote to it since we read it."""


class Damaged(LogError):
    """The stored records contradict one another."""


class TooNew(LogError):
    """The log was written by a newer version."""


class StorageFailed(LogError):
    """The storage refused; the batch is in the log as a whole or not at all, and this handle must not be used again."""


_STORAGE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS}


def is_storage(error: OSError) -> bool:
    """Tell whether the system refused because of the disk: full, broken, or not to be written."""
    return error.errno in _STORAGE


def is_out_of_files(error: OSError) -> bool:
    """Tell whether the system refused because too many files are open, of this process or of all."""
    return error.errno in {errno.EMFILE, errno.ENFILE}
