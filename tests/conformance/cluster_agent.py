"""A Nomad dev agent for tests: one server and one client on this machine."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request

from caravan.testing.nats import free_port

CONFIG = """
log_level            = "WARN"
disable_update_check = true
ports {{
  http = {http}
  rpc  = {rpc}
  serf = {serf}
}}
client {{
  cpu_total_compute = 16000
  memory_total_mb   = 16384
  max_kill_timeout  = "10m"
  host_network "v4" {{ cidr = "127.0.0.1/32" }}
  options = {{
    "fingerprint.denylist" = "env_aws,env_azure,env_gce,env_digitalocean,consul,vault,cni,bridge"
    "driver.allowlist"     = "raw_exec"
  }}
}}
"""
READY_S = 60.0
END_S = 60.0


class Agent:
    """``with Agent(folder)``: it is ready inside, and ends with all its tasks."""

    def __init__(self, folder):
        self.folder = folder
        self.ports = {name: free_port() for name in ("http", "rpc", "serf")}
        self.address = f"http://127.0.0.1:{self.ports['http']}"

    def __enter__(self):
        self.folder.mkdir()
        config = self.folder / "dev.hcl"
        config.write_text(CONFIG.format(**self.ports))
        # Tasks inherit the agent's environment, so it gets a clean one.
        home = str(self.folder)
        clean = {"PATH": os.environ["PATH"], "HOME": home, "TMPDIR": home}
        with (self.folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [shutil.which("nomad"), "agent", "-dev", "-config", str(config)],
                env=clean,
                cwd=home,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._wait_until_ready()
        return self

    def __exit__(self, *exc):
        with contextlib.suppress(OSError):
            self.clear()
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(END_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def clear(self):
        """Purge all jobs, once nothing of them runs, and the variables."""
        for job in self.ask("GET", "/v1/jobs"):
            self.ask("DELETE", f"/v1/job/{job['ID']}")
        deadline = time.monotonic() + END_S
        while any(a["ClientStatus"] in {"pending", "running"} for a in self.allocations()):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        for job in self.ask("GET", "/v1/jobs"):
            self.ask("DELETE", f"/v1/job/{job['ID']}?purge=true")
        for variable in self.ask("GET", "/v1/vars"):
            self.ask("DELETE", f"/v1/var/{variable['Path']}")
        self.ask("PUT", "/v1/system/gc")

    def allocations(self):
        return self.ask("GET", "/v1/allocations")

    def ask(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.address + path, data=data, method=method)
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with direct.open(request, timeout=10) as answer:
            text = answer.read()
        return json.loads(text) if text.strip() else None

    def _wait_until_ready(self):
        deadline = time.monotonic() + READY_S
        while not self._ready():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError((self.folder / "log").read_text()[-2000:])
            time.sleep(0.1)

    def _ready(self):
        try:
            nodes = self.ask("GET", "/v1/nodes")
        except OSError:
            return False
        return any(
            node["Status"] == "ready" and node["Drivers"]["raw_exec"]["Healthy"] for node in nodes
        )
