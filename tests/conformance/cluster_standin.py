"""Stands in for a worker: says that it lives, obeys or not, dies when it is told to.

Its orders are the engine_args of its spec:

--pids DIR       a file per life, named ``<instance>.<pid>``
--print N        numbered lines; --echo TEXT
--die N          ends at once, with status N
--deaf           hears SIGTERM and goes on
--slow SECONDS   ends so long after SIGTERM
--child          leaves a deaf child behind
--lock           holds the lock of its folder, as a worker does

SIGUSR1 makes it exit with status 3.
"""

import argparse
import fcntl
import json
import os
import signal
import sys
import time
from pathlib import Path


def main():
    spec = json.loads(os.environ["WORKER_SPEC"])
    orders = parsed(spec["engine_args"])
    if orders.lock:
        hold()
    Path(orders.pids, f"{spec['instance']}.{os.getpid()}").touch()
    if orders.echo:
        sys.stdout.write(f"{orders.echo}\n")
    for number in range(orders.print):
        sys.stdout.write(f"line {number}\n")
    sys.stdout.flush()
    if orders.die:
        sys.exit(orders.die)
    if orders.child and os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        Path(orders.pids, f"child.{os.getpid()}").touch()
        signal.pause()
    live(orders)


def hold():
    lock = os.open(Path(os.environ["WORKER_FOLDER"], "lock"), os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.exit(75)


def live(orders):
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGUSR1})
    sys.stdout.write("lives\n")
    sys.stdout.flush()
    while (got := signal.sigwait({signal.SIGTERM, signal.SIGUSR1})) == signal.SIGTERM:
        sys.stdout.write("told\n")
        sys.stdout.flush()
        if not orders.deaf:
            time.sleep(orders.slow)
            sys.stdout.write("ended in order")  # half a line: the last one of a log
            sys.exit(0)
    assert got == signal.SIGUSR1
    sys.exit(3)


def parsed(args):
    parser = argparse.ArgumentParser()
    parser.add_argument("--pids", required=True)
    parser.add_argument("--die", type=int, default=0)
    parser.add_argument("--deaf", action="store_true")
    parser.add_argument("--lock", action="store_true")
    parser.add_argument("--child", action="store_true")
    parser.add_argument("--slow", type=float, default=0.0)
    parser.add_argument("--echo", default="")
    parser.add_argument("--print", type=int, default=0)
    return parser.parse_args(args)


if __name__ == "__main__":
    main()
