"""Models that need no hub: ``smollm2`` for the demo, ``tiny-random`` for tests of mechanics."""
