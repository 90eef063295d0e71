"""Reading and writing rows within one transaction; every change leaves its event with it."""

from collections.abc import Iterable, Mapping

from sqlmodel import Session, col, delete, select

from caravan.kit import outbox
from services.scheduler.adapters.tables import DeploymentRow, FactRow, InstanceRow
from services.scheduler.core.books import Book, Books, Turn
from services.scheduler.core.deployments import Change
from services.scheduler.core.rows import Asked, Named

HOLD = "hold"
INSTALLATION = "installation"


def read_books(session: Session) -> Books:
    """Return all rows, those of the trash included."""
    rows = _by_name(session.exec(select(InstanceRow)))
    found = [row.asked() for row in session.exec(select(DeploymentRow))]
    found.sort(key=lambda asked: asked.key)
    return Books(
        books=[Book(asked, rows.get((asked.tenant, asked.name), [])) for asked in found],
        epoch=outbox.newest(session),
        hold=fact(session, HOLD),
    )


def read_book(session: Session, tenant: str, name: str) -> Book | None:
    """Return one deployment with its instances."""
    found = session.get(DeploymentRow, (tenant, name))
    if found is None:
        return None
    wanted = select(InstanceRow).where(InstanceRow.tenant == tenant, InstanceRow.name == name)
    return Book(found.asked(), _named(session.exec(wanted)))


def read_page(session: Session, tenant: str, after: str, limit: int) -> list[Book]:
    """Return up to ``limit`` of a tenant's deployments whose names follow ``after``."""
    wanted = (
        select(DeploymentRow)
        .where(DeploymentRow.tenant == tenant, DeploymentRow.name > after)
        .order_by(col(DeploymentRow.name))
        .limit(limit)
    )
    asked = [row.asked() for row in session.exec(wanted)]
    rows = _by_name(session.exec(select(InstanceRow).where(InstanceRow.tenant == tenant)))
    return [Book(one, rows.get((one.tenant, one.name), [])) for one in asked]


def write_change(session: Session, change: Change, actor: str, now: float) -> None:
    """Write what a message changed, if it did."""
    if not change.what:
        return
    asked = change.asked
    session.merge(DeploymentRow.of(asked))
    session.flush()
    note(session, asked, "deployment", change.what, now, actor=actor, detail=change.detail)
    for row in change.rows:
        session.merge(InstanceRow.of(row))
        drained = {"instance": row.instance}
        note(session, asked, "instance", "drained", now, actor=actor, detail=drained)
    session.flush()


def write_turn(session: Session, asked: Asked, turn: Turn, now: float) -> None:
    """Write what became of an instance's row."""
    if turn.row is not None:
        session.merge(InstanceRow.of(turn.row))
    else:
        ended = delete(InstanceRow).where(
            col(InstanceRow.tenant) == asked.tenant,
            col(InstanceRow.name) == asked.name,
            col(InstanceRow.instance) == turn.instance,
        )
        session.execute(ended)
    note(session, asked, "instance", turn.what, now, detail={"instance": turn.instance})


def purge(session: Session, asked: Asked, now: float) -> None:
    """Forget a deployment, unless it has been taken out of the trash since."""
    row = session.get(DeploymentRow, (asked.tenant, asked.name))
    if row is None or row.deleted_at != asked.deleted_at:
        return
    note(session, asked, "deployment", "purged", now)
    session.delete(row)


def fact(session: Session, name: str) -> str:
    """Return a fact; empty when it was never written."""
    row = session.get(FactRow, name)
    return row.value if row else ""


def write_fact(session: Session, name: str, value: str) -> None:
    session.merge(FactRow(name=name, value=value))
    session.flush()


def held_paths(session: Session) -> list[str]:
    """Return the deployments that a person froze one by one."""
    held = session.exec(select(DeploymentRow).where(col(DeploymentRow.held)))
    return sorted(f"{row.tenant}/{row.name}" for row in held)


def note(  # noqa: PLR0913 - the columns of an event
    session: Session,
    asked: Asked,
    kind: str,
    what: str,
    now: float,
    *,
    actor: str = "",
    detail: Mapping[str, object] | None = None,
) -> None:
    """Append an event of a deployment, whose row keeps the number of its newest."""
    number = outbox.record(
        session,
        kind=kind,
        tenant=asked.tenant,
        name=asked.name,
        what=what,
        at=now,
        actor=actor,
        detail=dict(detail or {}),
    )
    row = session.get(DeploymentRow, (asked.tenant, asked.name))
    assert row is not None
    row.event = number
    session.add(row)


def _by_name(rows: Iterable[InstanceRow]) -> dict[tuple[str, str], list[Named]]:
    found: dict[tuple[str, str], list[Named]] = {}
    for named in _named(rows):
        found.setdefault((named.spec.tenant, named.spec.name), []).append(named)
    return found


def _named(rows: Iterable[InstanceRow]) -> list[Named]:
    return sorted((row.named() for row in rows), key=lambda n: (n.named_at, n.instance))
