"""``python -m services.worker``: serve one instance, as the ``WORKER_…`` variables say."""

from caravan.kit import run
from services.worker.app import serve
from services.worker.settings import Settings

if __name__ == "__main__":
    run.main("worker", Settings, serve)
