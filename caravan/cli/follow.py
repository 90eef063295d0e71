"""``logs`` and ``events``: what was, and with ``-f`` what comes, by asking again and again."""

import argparse
import time
from collections.abc import Callable

from caravan.cli.output import Output
from caravan.cli.session import Session, connect, where
from caravan.contracts import admin, names, topology
from caravan.contracts.errors import UnavailableError
from caravan.contracts.events import Event

AGAIN_S = 1.0
PAGE = 100
Step = Callable[[str, float], tuple[str, bool]]
"""Shows what follows a cursor, waiting so long for something; the next cursor, and if any came."""


def logs(asked: argparse.Namespace, out: Output) -> None:
    """Show the last lines of an instance, then what follows."""
    names.check_name(asked.name)
    with connect(where(asked.nats_url, asked.tenant)) as session:
        _follow(out, asked.follow, _log_step(session, out, asked.name, asked.instance))


def events(asked: argparse.Namespace, out: Output) -> None:
    """Show the history, then what follows."""
    if asked.name:
        names.check_name(asked.name)
    with connect(where(asked.nats_url, asked.tenant)) as session:
        if asked.name:  # a name that never was has no history: say so
            session.ask(topology.GET_DEPLOYMENT, admin.GetDeployment(name=asked.name))
        _follow(out, asked.follow, _event_step(session, out, asked.name))


def _log_step(session: Session, out: Output, name: str, instance: str) -> Step:
    def step(cursor: str, wait_s: float) -> tuple[str, bool]:
        request = admin.ReadLogs(name=name, instance=instance, cursor=cursor, wait_s=wait_s)
        page: admin.LogPage = session.ask(topology.READ_LOGS, request, wait_s=wait_s)
        for line in page.items:
            if out.as_json:
                out.row({"instance": page.instance, "line": line})
            else:
                out.line(line)
        return page.cursor, bool(page.items) and page.cursor != cursor

    return step


def _event_step(session: Session, out: Output, name: str) -> Step:
    def step(cursor: str, wait_s: float) -> tuple[str, bool]:
        request = admin.ListEvents(name=name, cursor=cursor, wait_s=wait_s, limit=PAGE)
        page: admin.EventPage = session.ask(topology.LIST_EVENTS, request, wait_s=wait_s)
        for event in page.items:
            if out.as_json:
                out.row(event)
            else:
                out.line(_told(event))
        return page.cursor, len(page.items) == PAGE

    return step


def _follow(out: Output, on: bool, step: Step) -> None:  # noqa: FBT001 - the option -f
    cursor, more = step("", 0.0)
    while more:
        cursor, more = step(cursor, 0.0)
    silent = False
    while on:
        try:
            cursor, _ = step(cursor, admin.WAIT_LIMIT_S)
        except UnavailableError as error:
            if not silent:
                out.note(f"… {error.problem.message} Still trying.")
            silent = True
            time.sleep(AGAIN_S)
        else:
            silent = False


def _told(event: Event) -> str:
    at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(event.at))
    by = f" by {event.actor}" if event.actor else ""
    detail = bytes(event.detail).decode()
    return (
        f"{at}  {event.kind} {event.name} {event.what}{by}{'' if detail == '{}' else f'  {detail}'}"
    )
