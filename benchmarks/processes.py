"""What processes cost: CPU and memory, as the kernel counts them in ``/proc``."""

import os
from collections.abc import Iterable
from pathlib import Path

from msgspec import Struct

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_BUSY = (0, 1, 2, 5, 6, 7)
"""user, nice, system, irq, softirq, steal: columns of the first line of ``/proc/stat``."""


class Cpu(Struct, frozen=True):
    """Seconds of CPU since the start of what was asked about."""

    user: float
    system: float

    @property
    def total(self) -> float:
        return self.user + self.system


def tree(pid: int) -> list[int]:
    """Return ``pid`` and its descendants, parents first."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (fields := _stat(int(entry.name))) is not None:
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found = [pid]
    for one in found:  # grows while it is read
        found.extend(sorted(children.get(one, ())))
    return found


def cpu(pids: Iterable[int]) -> Cpu:
    """Return what ``pids`` have used, to 10 ms; a process that is gone counts nothing."""
    stats = [fields for pid in pids if (fields := _stat(pid)) is not None]
    return Cpu(
        sum(int(fields[11]) for fields in stats) / TICKS_PER_S,
        sum(int(fields[12]) for fields in stats) / TICKS_PER_S,
    )


def machine_cpu_s() -> float:
    """Return the seconds that all CPUs together were busy since the machine's start."""
    with Path("/proc/stat").open() as lines:
        fields = lines.readline().split()[1:]
    return sum(int(fields[n]) for n in _BUSY) / TICKS_PER_S


def resident_mb(pids: Iterable[int]) -> float:
    """Return the resident memory of ``pids`` together, 10^6 bytes; shared pages count each time."""
    return sum(map(_resident_kib, pids)) * 1024 / 1e6


def _resident_kib(pid: int) -> int:
    try:
        with Path(f"/proc/{pid}/status").open() as lines:
            return next((int(line.split()[1]) for line in lines if line.startswith("VmRSS:")), 0)
    except OSError:
        return 0


def _stat(pid: int) -> list[str] | None:
    """Return the fields of ``/proc/<pid>/stat`` after the name: state, parent, …"""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return text.rpartition(")")[2].split()
