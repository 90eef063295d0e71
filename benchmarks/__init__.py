"""What Caravan costs, measured by commands that a reader can run; figures go to benchmarks/out."""
