"""Whether this database may be trusted to decide what runs.

The epoch, the number of the newest event row, is left in the cluster and in the bucket before
anything is started or stopped. A database that is behind it was emptied, or is an older copy: it
does not know what has been asked since, so it may stop nothing.
"""

from services.scheduler.core.cluster import Mark

RELEASE = "put the right database back, or go on with this one by `caravan hold --release`"


def judge(installation: str, epoch: int, mark: Mark | None, published: int) -> str:
    """Return why nothing may be changed, in a sentence; empty when all is well.

    ``epoch`` is this database's, ``published`` the bucket's (0: it has none).
    """
    if mark is not None and mark.installation != installation:
        return (
            "the cluster was last used with another database (installation "
            f"{mark.installation}, this is {installation}): {RELEASE}"
        )
    if mark is not None and mark.epoch > epoch:
        return _behind(epoch, mark.epoch, "the cluster")
    if published > epoch:
        return _behind(epoch, published, "the bucket `deployments`")
    return ""


def _behind(epoch: int, known: int, where: str) -> str:
    return (
        f"this database ends at event {epoch}, but {where} has seen event {known}: it was emptied "
        f"or is an older copy; {RELEASE}"
    )
