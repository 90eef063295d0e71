"""The routers that are compared, and how each is started before the same two engines."""

import contextlib
import http.client
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import msgspec
from msgspec import Struct

from benchmarks.processes import tree
from benchmarks.router import tools
from benchmarks.router.cases import IMAGE_BYTES, TOKENS
from caravan.contracts import keys

HOST = "127.0.0.1"
KEY = "sk-bench-0123456789abcdef"
OUR_MODEL = "u-8105f7322477/fake"
OUR_KEY = keys.mint(2**255 + 17)
PATIENCE_S = 90.0
GRACE_S = 20.0
POLL_S = 0.2
_OFFLINE = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "1"}
_LITELLM = {
    "DISABLE_ADMIN_UI": "True",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_LOG": "ERROR",
    "LITELLM_MODE": "PRODUCTION",
    "LITELLM_TELEMETRY": "False",
    "NO_DOCS": "True",
    "NO_PROXY": "*",
}


class Site(Struct, frozen=True, kw_only=True):
    """Where a router runs: its port, another that it may use, the engines' ports, a folder."""

    port: int
    other_port: int
    engines: tuple[int, int]
    folder: Path

    def written(self, name: str) -> str:
        """Return the path of the configuration ``name`` with this site filled in."""
        text = (tools.HERE / name).read_text().replace("@KEY@", KEY)
        text = text.replace("@PORT@", str(self.port))
        for number, port in enumerate(self.engines, 1):
            text = text.replace(f"@ENGINE{number}@", str(port))
        (self.folder / name).write_text(text)
        return str(self.folder / name)

    @property
    def urls(self) -> list[str]:
        return [f"http://{HOST}:{port}" for port in self.engines]


class Peer(Struct, frozen=True, kw_only=True):
    """A router; without ``command`` the first engine itself."""

    name: str
    command: Callable[[Site], list[str]] | None
    prepare: Callable[[], object] = lambda: None
    """Installs or finds what it needs, before anything is measured; ``MissingError``."""
    model: str = "fake"
    key: str = KEY
    environ: Mapping[str, str] = {}
    leaves_out: frozenset[str] = frozenset()
    """Cases that it is far too slow for."""
    names_its_pids: bool = False
    """Whether it writes the pids that count into ``pids`` of its folder, and then says that it is
    ready; else all its tree counts."""


class Running(Struct, frozen=True):
    """A router that answers."""

    peer: Peer
    port: int
    pids: list[int]
    """Whose CPU and memory count."""
    ready_s: float


class FailedError(Exception):
    """A router that does not do what it is there for."""


def _nginx(site: Site) -> list[str]:
    return [tools.program("nginx"), "-p", str(site.folder), "-c", site.written("nginx.conf")]


def _sglang(policy: str) -> Callable[[Site], list[str]]:
    def command(site: Site) -> list[str]:
        return [
            str(tools.environment("sglang-router") / "python"),
            *("-m", "sglang_router.launch_router", "--host", HOST, "--port", str(site.port)),
            *("--worker-urls", *site.urls, "--policy", policy, "--api-key", KEY),
            *("--prometheus-host", HOST, "--prometheus-port", str(site.other_port)),
            *("--log-level", "warn"),
        ]

    return command


def _litellm(site: Site) -> list[str]:
    return [
        str(tools.environment("litellm") / "litellm"),
        *("--config", site.written("litellm.yaml"), "--host", HOST, "--port", str(site.port)),
        *("--num_workers", "1"),
    ]


def _prepare_nginx() -> object:
    return tools.program("nginx")


def _prepare_sglang() -> object:
    return tools.environment("sglang-router")


def _prepare_litellm() -> object:
    return tools.environment("litellm")


def _engines(site: Site) -> list[str]:
    return [word for url in site.urls for word in ("--engine", url)]


def _lean(site: Site) -> list[str]:
    lane = "benchmarks.router.lean"
    return [sys.executable, "-m", lane, "--port", str(site.port), *_engines(site)]


def _ours(processes: int) -> Callable[[Site], list[str]]:
    def command(site: Site) -> list[str]:
        return [
            *(sys.executable, "-m", "benchmarks.router_under_test", "--port", str(site.port)),
            *("--model", OUR_MODEL, "--key", OUR_KEY, *_engines(site)),
            *("--processes", str(processes), "--pids-file", str(site.folder / "pids")),
        ]

    return command


def _us(name: str, processes: int) -> Peer:
    return Peer(
        name=name, command=_ours(processes), model=OUR_MODEL, key=OUR_KEY, names_its_pids=True
    )


PEERS = {
    peer.name: peer
    for peer in (
        Peer(name="direct", command=None),
        Peer(name="nginx", command=_nginx, prepare=_prepare_nginx),
        Peer(
            name="sglang-rr",
            command=_sglang("round_robin"),
            prepare=_prepare_sglang,
            environ=_OFFLINE,
        ),
        Peer(
            name="sglang-ca",
            command=_sglang("cache_aware"),
            prepare=_prepare_sglang,
            environ=_OFFLINE,
        ),
        Peer(
            name="litellm-1w",
            command=_litellm,
            prepare=_prepare_litellm,
            environ=_LITELLM,
            leaves_out=frozenset({"A256", "B32n", "B32e", "C1000"}),
        ),
        Peer(name="lean", command=_lean),
        _us("ours", 1),
        _us("ours-2p", 2),
    )
}
DEFAULT = ("direct", "nginx", "sglang-rr", "sglang-ca", "litellm-1w", "ours")


@contextlib.contextmanager
def running(peer: Peer, site: Site) -> Iterator[Running]:
    """Run ``peer`` while inside; ``FailedError`` when it does not answer as it should."""
    if peer.command is None:
        yield Running(peer, site.engines[0], [], 0.0)
        return
    site.folder.mkdir(parents=True)
    for name in ("body", "proxy"):  # nginx does not make them itself
        (site.folder / name).mkdir()
    began = time.monotonic()
    with (site.folder / "output").open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 - the peers' own commands
            peer.command(site),
            env={**os.environ, **peer.environ},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # a Ctrl-C is ours; it is told to end below
        )
    try:
        _await_answers(peer, site, process)
        pids = tree(process.pid)
        if peer.names_its_pids:
            pids = [int(word) for word in (site.folder / "pids").read_text().split()]
        yield Running(peer, site.port, pids, time.monotonic() - began)
    finally:
        _end(process)


def _await_answers(peer: Peer, site: Site, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    why = ""
    while process.poll() is None and time.monotonic() < deadline:
        try:
            check(peer, site.port)
            if not peer.names_its_pids or b"router ready" in (site.folder / "output").read_bytes():
                return
        except (OSError, http.client.HTTPException, FailedError) as exc:
            why = f"{type(exc).__name__}: {exc}"
        time.sleep(POLL_S)
    said = (site.folder / "output").read_text(errors="replace")[-1500:]
    raise FailedError(f"{peer.name} does not answer ({why or process.returncode}):\n{said}")


def check(peer: Peer, port: int) -> None:
    """Refuse a router that shortens a stream, or does not take a large body."""
    status, body = _ask(peer, port, "hello", stream=True)
    whole = body.count(b"data: ") >= TOKENS + 2 and b"[DONE]" in body and b'"usage"' in body
    if status != 200 or not whole:
        raise FailedError(f"a stream was answered with {status}: …{body[-300:]!r}")
    status, body = _ask(peer, port, "x" * IMAGE_BYTES, stream=False)
    if status != 200:
        raise FailedError(f"1 MB was answered with {status}: {body[:300]!r}")


def _ask(peer: Peer, port: int, content: str, *, stream: bool) -> tuple[int, bytes]:
    body = {
        "model": peer.model,
        "messages": [{"role": "user", "content": content}],
        "max_tokens": TOKENS,
        "stream": stream,
        "seed": 0,
    }
    if stream:
        body["stream_options"] = {"include_usage": True}
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {peer.key}"}
    connection = http.client.HTTPConnection(HOST, port, timeout=10)
    with contextlib.closing(connection):
        connection.request("POST", "/v1/chat/completions", msgspec.json.encode(body), headers)
        answer = connection.getresponse()
        return answer.status, answer.read()


def _end(process: subprocess.Popen[bytes]) -> None:
    everybody = tree(process.pid)
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(GRACE_S)
    for pid in everybody:  # those that outlive what started them, too
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()
