"""``python -m services.router``: the data path."""

from caravan.kit import run
from services.router.app import serve
from services.router.settings import Settings

if __name__ == "__main__":
    run.main("router", Settings, serve)
