"""Waiting until a deployment is what was asked, and showing the way there."""

import time

from caravan.cli.output import Output
from caravan.cli.session import Session
from caravan.contracts import admin, topology
from caravan.contracts.errors import UnavailableError

EVERY_S = 0.3
FAILED_LOOKS = 3
"""So many looks in a row at ``failed`` before the wait gives up: the state may be the old one."""
SETTLED = ("stopped", "asleep", "deleted")


def reached(session: Session, out: Output, name: str, timeout_s: float) -> admin.Deployment:
    """Return the deployment when it runs, or has stopped, as asked.

    Raises ``UnavailableError`` when it fails, or is not there after ``timeout_s``; the deployment
    itself is left as it is, and its tries go on.
    """
    deadline, failed = time.monotonic() + timeout_s, 0
    with out.progress(f"{name}: asked for") as say:
        while True:
            one: admin.Deployment = session.ask(
                topology.GET_DEPLOYMENT, admin.GetDeployment(name=name), restart_s=30.0
            )
            if settled(one):
                return one
            say(line(one))
            failed = failed + 1 if one.state == "failed" else 0
            if failed >= FAILED_LOOKS:
                raise UnavailableError(
                    f"{one.path} does not start: {_why(one).rstrip('.')}."
                    f" See `caravan logs {name}`; its tries go on."
                )
            if time.monotonic() >= deadline:
                raise UnavailableError(
                    f"{one.path} is still {one.state} after {timeout_s:.0f} s:"
                    f" `caravan show {name}` shows how far it is."
                )
            time.sleep(EVERY_S)


def settled(one: admin.Deployment) -> bool:
    """Tell whether nothing is on its way any more."""
    if one.state == "running":  # more than were asked for are still being drained
        return one.ready == len(one.truth) == one.instances
    return one.state in SETTLED


def line(one: admin.Deployment) -> str:
    """Return how far it is in one line."""
    leaving = sum(truth.verdict == "drain" for truth in one.truth)
    count = f"{one.ready} of {one.instances} ready" if one.instances else f"{one.ready} left"
    said = f"{one.name}: {one.state}, {count}"
    said += f", {leaving} being drained" if leaving else ""
    waits = [truth for truth in one.truth if not truth.ready and truth.verdict != "drain"]
    return f"{said} · {waits[0].text or waits[0].reason}" if waits else said


def _why(one: admin.Deployment) -> str:
    if one.reason:
        return one.reason
    reasons = [truth.reason for truth in one.truth if truth.reason]
    return reasons[0] if reasons else "its engine ends at once"
