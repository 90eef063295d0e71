"""An engine as a process of a test: started, awaited, ended; the fake one or any other."""

import http.client
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from caravan.testing.nats import free_port

FAKE = (sys.executable, "-m", "caravan.testing.engine")


class EngineProcess:
    """One engine on a free port of 127.0.0.1; ``with`` waits until it is ready and ends it."""

    def __init__(
        self,
        model: Path,
        log: Path,
        *flags: str,
        program: Sequence[str] = FAKE,
        name: str = "u-0123456789ab/test",
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self.name, self.key, self.port, self.log = name, "engine-key", free_port(), log
        self.url = f"http://127.0.0.1:{self.port}"
        self.auth = {"Authorization": f"Bearer {self.key}"}
        self.patience_s = 60.0
        """For the start, and for the end."""
        self._command = [*program, "serve", "--model-path", str(model)]
        self._command += ["--served-model-name", name, "--api-key", self.key]
        self._command += ["--host", "127.0.0.1", "--port", str(self.port), *flags]
        ours = {"HF_HUB_OFFLINE": "1", "OMP_WAIT_POLICY": "PASSIVE"}  # as a worker sets them
        self._environ = {**os.environ, **ours, **(environ or {})}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Of the main process."""
        return self._started.pid

    @property
    def running(self) -> bool:
        """It was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    @property
    def last_lines(self) -> str:
        """The end of what it has written."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-20:])

    def start(self) -> None:
        """Start the process; it is not ready yet."""
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603 - the test's own command
                self._command, env=self._environ, stdout=log, stderr=log
            )

    def wait_ready(self) -> None:
        """Return when ``/health`` says so."""
        deadline = time.monotonic() + self.patience_s
        while self._health() != 200:
            assert self.running, f"the engine has ended:\n{self.last_lines}"
            assert time.monotonic() < deadline, f"it does not become ready:\n{self.last_lines}"
            time.sleep(0.02)

    def wait(self) -> int:
        """Return the exit status when it has ended."""
        return self._started.wait(self.patience_s)

    def ask_to_end(self) -> None:
        """Send SIGTERM."""
        self._started.send_signal(signal.SIGTERM)

    def stop(self) -> int:
        """Ask it to end, and return its exit status; killed when it does not listen."""
        self.ask_to_end()
        try:
            return self.wait()
        except subprocess.TimeoutExpired:
            self.kill()
            return self.wait()

    def kill(self) -> None:
        """End it at once."""
        self._started.kill()
        self._started.wait()

    def __enter__(self) -> Self:
        self.start()
        self.wait_ready()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def _started(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "it was not started"
        return self._process

    def _health(self) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status
        except OSError:
            return 0
        finally:
            connection.close()
