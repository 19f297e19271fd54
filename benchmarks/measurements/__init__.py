"""One module a measurement. Its ``measure`` takes a `Bench` and returns the figures that `benchmarks.report` shows."""
