"""``python -m services.scheduler``: settings from the environment, then serve."""

from caravan.kit.run import main
from services.scheduler.app import serve
from services.scheduler.settings import Settings

if __name__ == "__main__":
    main("scheduler", Settings, serve)
