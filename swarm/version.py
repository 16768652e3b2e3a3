"""Our version, from the installed distribution."""

from importlib import metadata

try:
    VERSION = metadata.version("eventswarm")
except metadata.PackageNotFoundError:
    VERSION = "0+unknown"
