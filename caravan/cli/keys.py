"""``caravan keys``: make, list, end and replace API keys."""

import argparse
import time

from caravan.cli.output import Output
from caravan.cli.session import Session, connect, intent, where
from caravan.contracts import admin, names, topology


def create(asked: argparse.Namespace, out: Output) -> None:
    """Make a key and show it, this once."""
    for name in asked.scope:
        names.check_name(name)
    request = admin.CreateKey(
        request_id=intent(), label=asked.label, expires_in_s=asked.expires_in, scopes=asked.scope
    )
    with connect(where(asked.nats_url, asked.tenant)) as session:
        _show(out, session.ask(topology.CREATE_KEY, request))


def show_all(asked: argparse.Namespace, out: Output) -> None:
    """List the tenant's keys, without their secrets."""
    with connect(where(asked.nats_url, asked.tenant)) as session:
        page = whole(session)
    if out.as_json:
        out.document(page)
        return
    if page.hold:
        out.note(f"On hold, nothing is changed: {page.hold}")
    if not page.items:
        out.line("No keys: make one with `caravan keys create`.")
        return
    out.table(("ID", "STATE", "ENDS IN", "EXPIRES", "LABEL"), [_row(key) for key in page.items])


def whole(session: Session) -> admin.KeyPage:
    """Return all of the tenant's keys as one page."""
    items: list[admin.Key] = []
    cursor = ""
    while True:
        page: admin.KeyPage = session.ask(topology.LIST_KEYS, admin.ListKeys(cursor=cursor))
        items += page.items
        if not page.cursor:
            return admin.KeyPage(items=items, hold=page.hold)
        cursor = page.cursor


def revoke(asked: argparse.Namespace, out: Output) -> None:
    """End a key."""
    request = admin.RevokeKey(request_id=intent(), id=asked.id)
    with connect(where(asked.nats_url, asked.tenant)) as session:
        key = session.ask(topology.REVOKE_KEY, request)
    if out.as_json:
        out.document(key)
    else:
        out.line(f"{key.id} is revoked.")


def rotate(asked: argparse.Namespace, out: Output) -> None:
    """Replace a key's secret and show the new one, this once."""
    request = admin.RotateKey(request_id=intent(), id=asked.id, grace_s=asked.grace)
    with connect(where(asked.nats_url, asked.tenant)) as session:
        _show(out, session.ask(topology.ROTATE_KEY, request))


def _show(out: Output, made: admin.KeyCreated) -> None:
    if out.as_json:
        out.document(made)
        return
    out.line(made.secret)
    out.note(f"This is {made.key.id}. It is shown now and never again: keep it where it is safe.")
    if made.accepted:
        out.note("It is written down; routers learn of it when NATS is back.")


def _row(key: admin.Key) -> tuple[str, ...]:
    expires = "never" if key.expires_at is None else _day(key.expires_at)
    return (key.id, key.state, f"…{key.hint}", expires, key.label)


def _day(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(at))
