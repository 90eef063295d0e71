"""``DEAD``: the raw bytes of what nobody could read, kept for a person or a later version."""

import hashlib

from nats.js.errors import NoStreamResponseError

from caravan.contracts.topology import DEAD
from caravan.kit.buckets import answering, open_stream, require_connection
from caravan.kit.bus import Bus

SUBJECT_HEADER = "Caravan-Subject"


async def bury(bus: Bus, subject: str, data: bytes) -> None:
    """Keep ``data`` that came on ``subject``; the same again within two minutes is kept once.

    ``UnavailableError`` when NATS does not take it: try again later.
    """
    require_connection(bus)
    grave = f"caravan.dead.{subject.removeprefix('$')}"
    digest = hashlib.sha256(subject.encode() + b"\0" + data).hexdigest()
    headers = {SUBJECT_HEADER: subject, "Nats-Msg-Id": digest}
    with answering(f"stream {DEAD.name}"):
        try:
            await bus.js.publish(grave, data, headers=headers)
        except NoStreamResponseError:
            await open_stream(bus, DEAD)
            await bus.js.publish(grave, data, headers=headers)
