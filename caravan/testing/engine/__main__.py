"""``python -m caravan.testing.engine serve --model-path FOLDER …``."""

import asyncio
import os
import sys

import msgspec

from caravan.testing.engine import flags, model, plan, serve


def main() -> int:
    """Run the engine; returns its exit status."""
    options = flags.parse(sys.argv[1:])
    serve.say(f"server_args={msgspec.structs.asdict(options)}")  # SGLang too shows its key here
    try:
        found = model.read(options.model_path)
    except (OSError, msgspec.DecodeError) as error:
        serve.say(f"OSError: Can't load the configuration of '{options.model_path}': {error}")
        return 1
    return asyncio.run(serve.serve(options, found, plan.from_environment(os.environ)))


if __name__ == "__main__":
    sys.exit(main())
