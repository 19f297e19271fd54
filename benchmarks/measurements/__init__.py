"""One module for each thing that is measured. Each takes a `Bench` and gives what `benchmarks.report` shows."""
