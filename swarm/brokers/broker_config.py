"""What a broker must be told so that the bus is closed to those who don't belong: texts for mosquitto, pure.

`broker_config` is a whole `mosquitto.conf`, `acl` the access list that it names, `loopback_config` the one of
`swarm broker`. The topics are those of `bus/topics.py`, and the unit of trust is the broker's user: an agent or client
is `<user>/<instance>`, and what a user may write to proves to a hub who wrote.

An access list of mosquitto guards what is published and what is delivered. SUBSCRIBE itself is always granted: who
subscribes to what is not theirs gets silence, not an error.
"""

import re
from collections.abc import Sequence
from pathlib import PurePosixPath

from bus.topics import ROOT, check_name

FOLDER = "/etc/mosquitto/swarm"
"""Where the files lie unless another folder is named."""
MOST_BYTES = 1_048_576
"""Of one packet. We send at most 64 KiB inline and chunks of 128 KiB, as text of base64; the rest is room."""

_PLAIN_PATH = re.compile(r"/[\w./@+-]*")

_CONFIG = """\
# mosquitto.conf for a bus of eventswarm, for mosquitto 2.0 and newer.
# Start it with:  mosquitto -c {folder}/mosquitto.conf

# Who comes in: over TLS, with a name and a password. mosquitto reads these files as its own user, not as root.
listener 8883
tls_version tlsv1.2
certfile {folder}/broker.crt
keyfile {folder}/broker.key
allow_anonymous false
password_file {folder}/passwords
acl_file {folder}/acl

# Client certificates besides passwords (or instead, with use_identity_as_username true):
# cafile {folder}/ca.crt
# require_certificate true

# Small messages leave at once. Without this an answer waits up to 40 ms for the next one.
set_tcp_nodelay true

# Bigger packets end the connection of who sent them. Nothing of ours is bigger: large files go in chunks.
max_packet_size {most_bytes}

# How much waits for one client that is slow. Beyond it mosquitto drops, and tells nobody; agents send their answers
# again, but what is dropped costs time.
max_inflight_messages 1000
max_queued_messages 20000
max_queued_bytes 268435456

# Cards, sessions and what waits in them survive a broker that is killed, but for the last second.
persistence true
persistence_location {data}/
autosave_on_changes true
autosave_interval 1

# Sessions of clients that never come back are forgotten.
persistent_client_expiration 1d

log_dest stderr
log_type error
log_type warning
log_type notice
"""

_LOOPBACK = """\
# mosquitto for a try on this machine alone: nobody is asked for a name, nothing is kept.
listener {port} 127.0.0.1
allow_anonymous true
set_tcp_nodelay true
max_packet_size {most_bytes}
max_inflight_messages 1000
max_queued_messages 20000
max_queued_bytes 268435456
persistence false
connection_messages false
log_dest stderr
log_type error
log_type warning
log_type information
"""

_ACL = """\
# Who may say and hear what on a bus of eventswarm. What is not allowed here is refused.
# Users are made with:  mosquitto_passwd {folder}/passwords NAME
# A name is made of letters, digits, `_` and `-`. mosquitto reads this file and the passwords anew on SIGHUP.

# Every user may offer agents. In these lines %u is the user's own name, so that no one can speak for another:
# its cards, the requests that hubs hand it, its answers, and files for both.
pattern readwrite {root}/agent/%u/+/card
pattern read {root}/agent/%u/+/request/+
pattern read {root}/agent/%u/+/control
pattern read {root}/agent/%u/+/files
pattern write {root}/hub/+/reply/%u/+/+
pattern write {root}/hub/+/files/%u/+
pattern read {root}/hub/+/card
"""

_HUB = """
# A hub: it alone hands out work and says what became of it.
user {name}
topic readwrite {root}/#
"""

_CLIENT = """
# A client: it submits runs, watches all runs and sees which agents there are, and offers no agents itself.
user {name}
topic write {root}/submit/{name}/+
topic read {root}/client/{name}/+/answer
topic read {root}/client/{name}/+/files
topic read {root}/run/#
topic read {root}/agent/+/+/card
topic deny {root}/agent/{name}/+/card
"""


def broker_config(folder: str = FOLDER, data: str = "/var/lib/mosquitto") -> str:
    """Return `mosquitto.conf`. `folder` holds certificate, key, passwords and access list, `data` what is kept.

    Raises `ValueError` for a folder that is not absolute or could not stand in the file as it is.
    """
    return _CONFIG.format(folder=_plain(folder), data=_plain(data), most_bytes=MOST_BYTES)


def loopback_config(port: int) -> str:
    """Return the configuration for a broker that only this machine reaches."""
    return _LOOPBACK.format(port=port, most_bytes=MOST_BYTES)


def acl(hubs: Sequence[str] = ("hub",), clients: Sequence[str] = ("client",), folder: str = FOLDER) -> str:
    """Return the access list. All users but these are agents, and need no line of their own.

    Raises `ValueError` for a name that cannot stand in a topic, or is both.
    """
    if both := sorted(set(hubs) & set(clients)):
        raise ValueError(f"{both[0]!r} cannot be both a hub and a client: give each a user of its own")
    parts = [_ACL.format(root=ROOT, folder=_plain(folder))]
    parts += [_HUB.format(root=ROOT, name=check_name(name)) for name in hubs]
    parts += [_CLIENT.format(root=ROOT, name=check_name(name)) for name in clients]
    return "".join(parts)


def config_files(folder: str = FOLDER, data: str = "/var/lib/mosquitto") -> dict[str, str]:
    """Return all that a broker needs besides passwords and certificates: the text of each file by its name."""
    return {"mosquitto.conf": broker_config(folder, data), "acl": acl(folder=folder)}


def _plain(folder: str) -> str:
    if not _PLAIN_PATH.fullmatch(folder):
        raise ValueError(f"{folder!r} cannot stand in mosquitto.conf: an absolute path without spaces is needed")
    return str(PurePosixPath(folder))
