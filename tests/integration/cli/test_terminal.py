"""Commands on a real terminal: the question before a deletion, and narrow ones."""

import os
import pty
import select
import struct
import sys
import termios
import time
from fcntl import ioctl

import pytest

PATIENCE_S = 60.0


class Terminal:
    """A command on a terminal of its own, typed at and read from."""

    def __init__(self, environ, *arguments, columns=60):
        self.shown = ""
        self._pid, self._screen = pty.fork()
        if not self._pid:
            words = [sys.executable, "-m", "caravan.cli", *arguments]
            os.execve(sys.executable, words, {**environ, "TERM": "xterm"})
        ioctl(self._screen, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))

    def until(self, text):
        """Read until ``text`` is on the screen."""
        while text not in self.shown:
            assert self._read(), f"it ended without {text!r}: {self.shown}"

    def type(self, text):
        os.write(self._screen, text.encode())

    def end(self):
        """Read to the end and return the exit status."""
        while self._read():
            pass
        os.close(self._screen)
        _, status = os.waitpid(self._pid, 0)
        return os.waitstatus_to_exitcode(status)

    def _read(self):
        deadline = time.monotonic() + PATIENCE_S
        ready, _, _ = select.select([self._screen], [], [], deadline - time.monotonic())
        assert ready, f"nothing for {PATIENCE_S:.0f} s after: {self.shown}"
        try:
            data = os.read(self._screen, 65536)
        except OSError:
            return False
        self.shown += data.decode(errors="replace").replace("\r\n", "\n")
        return bool(data)


@pytest.fixture
def doomed(platform, model):
    """The name of a deployment that may be deleted."""
    name = f"doomed-{time.monotonic_ns()}"
    platform.run("deploy", name, "--source", str(model), "--instances", "0")
    return name


def test_the_right_name_typed_deletes(platform, doomed):
    terminal = Terminal(platform.environ, "delete", doomed)
    terminal.until("Type its name to go on: ")
    terminal.type(f"{doomed}\n")

    assert terminal.end() == 0
    assert "is deleted" in terminal.shown
    state = platform.run("show", doomed, "--json").json["state"]
    assert state in {"deleting", "deleted"}


def test_another_name_typed_deletes_nothing(platform, doomed):
    terminal = Terminal(platform.environ, "delete", doomed)
    terminal.until("Type its name to go on: ")
    terminal.type("something\n")

    assert terminal.end() == 4
    assert platform.run("show", doomed, "--json").json["state"] == "stopped"


def test_ctrl_c_at_the_question_ends_silently(platform, doomed):
    terminal = Terminal(platform.environ, "delete", doomed)
    terminal.until("Type its name to go on: ")
    terminal.type("\x03")

    assert terminal.end() == 130
    assert "Traceback" not in terminal.shown
    assert platform.run("show", doomed, "--json").json["state"] == "stopped"


def test_nobody_is_asked_about_a_deployment_that_is_not_there(platform):
    terminal = Terminal(platform.environ, "delete", "lost")

    assert terminal.end() == 5
    assert "Type its name" not in terminal.shown


@pytest.mark.parametrize("line", ["list", "status", "keys list", "events", "deploy --help"])
@pytest.mark.usefixtures("chat")
def test_on_60_columns_tables_keep_their_lines(platform, line):
    terminal = Terminal(platform.environ, *line.split())

    assert terminal.end() == 0
    table = [row for row in _plain(terminal.shown).splitlines() if "/" not in row or "  " in row]
    assert table
    if line in {"list", "keys list"}:
        assert [row for row in table if len(row) > 60] == []


def test_a_conversation_remembers_what_was_said(platform, chat, key):
    terminal = Terminal(platform.environ, "chat", chat, "--key", key)
    terminal.until("> ")
    terminal.type("first\n")
    terminal.until("15/15:first")
    terminal.type("second\n")
    terminal.until("15/15:second")
    terminal.type("\x04")

    assert terminal.end() == 0


def test_progress_is_a_living_line_while_it_starts(platform, model):
    name = f"live-{time.monotonic_ns()}"
    terminal = Terminal(
        platform.environ, "deploy", name, "--source", str(model), "--wait", columns=60
    )

    assert terminal.end() == 0
    assert "0 of 1 ready" in terminal.shown
    assert "is running" in terminal.shown
    platform.run("delete", name, "--confirm", name)


def _plain(text):
    import re  # noqa: PLC0415 - here alone

    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text)
