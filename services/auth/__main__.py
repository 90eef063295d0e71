"""``python -m services.auth``: read the environment, start."""

from caravan.kit import run
from services.auth.app import serve
from services.auth.settings import Settings

if __name__ == "__main__":
    run.main("auth", Settings, serve)
