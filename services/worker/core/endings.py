"""How a process ended, in words that help."""

import re
from collections.abc import Sequence

_SIGNALS = {
    6: "it aborted (SIGABRT)",
    7: "a bus error (SIGBUS); often /dev/shm is full",
    9: "it was killed (SIGKILL); most often the machine, or its limit, was out of memory",
    11: "a segmentation fault (SIGSEGV)",
    15: "somebody asked it to end (SIGTERM)",
}
_SIGNS = (
    ("CUDA out of memory", "the GPU is out of memory"),
    ("torch.OutOfMemoryError", "the GPU is out of memory"),
    ("Not enough memory", "not enough memory for the weights and the cache of tokens"),
    ("MemoryError", "the machine is out of memory"),
    ("Cannot allocate memory", "the machine is out of memory"),
    ("address already in use", "another program took the engine's port"),
    ("unrecognized arguments", "SGLang does not know one of its flags"),
    ("invalid choice", "SGLang does not take the value of one of its flags"),
    ("No space left on device", "the disk is full"),
)
"""What engines print before they end; the last that is found counts."""

_ENDS_ITSELF = "SIGQUIT received"
"""SGLang prints it when one of its processes failed, and then kills itself."""
_ITSELF = "SGLang ended itself because one of its processes failed"

_EXCEPTION = re.compile(r"\b[A-Z]\w*(?:Error|Exception)\b: .{1,200}")


def words(returncode: int, last_lines: Sequence[str]) -> str:
    """Return why a process ended: exit code or signal (negative), and the cause that it printed."""
    how = _how(returncode)
    if any(_ENDS_ITSELF in line for line in last_lines):
        how = _ITSELF
    cause = _known_cause(last_lines) or _exception(last_lines)
    return f"{cause} ({how})" if cause else how


def _how(returncode: int) -> str:
    number = -returncode if returncode < 0 else returncode - 128
    if number in _SIGNALS:
        return _SIGNALS[number]
    if returncode < 0:
        return f"it was ended by signal {number}"
    return f"it exited with {returncode}"


def _known_cause(last_lines: Sequence[str]) -> str:
    for line in reversed(last_lines):
        for sign, meaning in _SIGNS:
            if sign.lower() in line.lower():
                return meaning
    return ""


def _exception(last_lines: Sequence[str]) -> str:
    found = (_EXCEPTION.search(line) for line in reversed(last_lines))
    return next((match[0] for match in found if match), "")
