"""A real Nomad for tests: one dev agent, server and client, on free ports of this machine.

The binary is not ours to ship (its licence is BUSL): whoever has ``nomad`` on PATH runs more tests.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from caravan.testing.nats import free_port

PATIENCE_S = 60.0
MISSING = (
    "no `nomad` on PATH: install it from its vendor (developer.hashicorp.com/nomad/install) to run "
    "these tests; nothing else needs it"
)
HOST_NETWORK = "v4"
"""The network to take ports from; the loopback's two addresses would hand out each port twice."""

# Room for many instances; lo alone; a clean start needs no cloud to be asked after.
_CONFIG = """
log_level            = "WARN"
disable_update_check = true
ports {{
  http = {http}
  rpc  = {rpc}
  serf = {serf}
}}
client {{
  cpu_total_compute = 64000
  memory_total_mb   = 65536
  max_kill_timeout  = "10m"
  host_network "v4" {{ cidr = "127.0.0.1/32" }}
  options = {{
    "fingerprint.denylist" = "env_aws,env_azure,env_gce,env_digitalocean,consul,vault,cni,bridge"
    "driver.allowlist"     = "raw_exec"
  }}
}}
"""


class NomadAgent:
    """``with NomadAgent(folder) as agent``: ready inside; it ends with all its tasks."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ports = {name: free_port() for name in ("http", "rpc", "serf")}
        self.url = f"http://127.0.0.1:{self._ports['http']}"
        self._direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True)
        config = self._folder / "dev.hcl"
        config.write_text(_CONFIG.format(**self._ports))
        # Tasks inherit the agent's environment, so it gets a clean one.
        home = str(self._folder)
        with (self._folder / "log").open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603 - the nomad of this PATH
                [shutil.which("nomad") or "nomad", "agent", "-dev", "-config", str(config)],
                env={"PATH": os.environ["PATH"], "HOME": home, "TMPDIR": home},
                cwd=home,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            self._wait_until(self._ready)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self.clear()
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def clear(self) -> None:
        """Purge all jobs, once nothing of them runs, and all variables."""
        for job in self.ask("GET", "/v1/jobs"):
            self.ask("DELETE", f"/v1/job/{job['ID']}")
        self._wait_until(lambda: not self._busy())
        for job in self.ask("GET", "/v1/jobs"):
            self.ask("DELETE", f"/v1/job/{job['ID']}?purge=true")
        for variable in self.ask("GET", "/v1/vars"):
            self.ask("DELETE", f"/v1/var/{variable['Path']}")
        self.ask("PUT", "/v1/system/gc")

    def ask(self, method: str, path: str, body: object = None) -> Any:  # noqa: ANN401 - JSON
        """Return what Nomad answers to a request, decoded; ``OSError`` when it refuses."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data=data, method=method)  # noqa: S310 - our own agent
        with self._direct.open(request, timeout=10) as answer:
            text = answer.read()
        return json.loads(text) if text.strip() else None

    def _busy(self) -> bool:
        states = {alloc["ClientStatus"] for alloc in self.ask("GET", "/v1/allocations")}
        return bool(states & {"pending", "running"})

    def _ready(self) -> bool:
        if self._process.poll() is not None:
            raise RuntimeError(f"the agent ended: {self._log()}")
        try:
            nodes = self.ask("GET", "/v1/nodes")
        except OSError:
            return False
        return any(
            node["Status"] == "ready" and node["Drivers"]["raw_exec"]["Healthy"] for node in nodes
        )

    def _wait_until(self, holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not holds():
            if time.monotonic() > deadline:
                raise TimeoutError(f"Nomad did not get there in time: {self._log()}")
            time.sleep(0.1)

    def _log(self) -> str:
        return (self._folder / "log").read_text(errors="replace")[-2000:]
