"""``python -m benchmarks``: measure and write the results; ``make bench`` runs it."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from tqdm import tqdm

from benchmarks import machine, plots, report, shapes
from benchmarks.bench import Bench
from benchmarks.measurements import (
    choosing,
    crowd,
    engines,
    first_token,
    freeing,
    interruption,
    killing,
    responsiveness,
    speed,
    startup,
    threads,
    waiting,
)
from glm_api.pipeline.cpus import usable_cpus

CHECKOUT = Path(__file__).resolve().parents[1]
CACHE = CHECKOUT / "build" / "bench"
RESULTS = CHECKOUT / "benchmarks" / "results"

MEASUREMENTS: dict[str, Callable[[Bench], dict[str, Any]]] = {
    "startup": startup.measure,
    "speed": speed.measure,
    "threads": threads.measure,
    "choosing": choosing.measure,
    "responsiveness": responsiveness.measure,
    "first_token": first_token.measure,
    "freeing": freeing.measure,
    "interruption": interruption.measure,
    "waiting": waiting.measure,
    "killing": killing.measure,
    "crowd": crowd.measure,
    "engines": engines.measure,
}
# Tokens of the tiny model are so fast that a busy model cannot be seen, and suffer most from a thread too many. Tokens
# of the synthetic ones are so slow that a crowd would wait for hours.
FOR_TINY = ("startup", "speed", "threads", "choosing", "first_token", "waiting", "killing", "crowd", "engines")
# The longest is last.
FOR_SYNTHETIC = ("startup", "responsiveness", "freeing", "interruption", "speed", "choosing", "engines", "first_token")


def _show(bar: tqdm[NoReturn], shape: str, what: str) -> None:
    bar.set_description_str(f"{shape}: {what}")


def main(arguments: list[str]) -> None:
    # Exit instead of dying of the signal, so that the servers under measurement are stopped too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    # For instance, with PYTHONDONTWRITEBYTECODE every start compiles all modules.
    for name in [name for name in os.environ if name.startswith("PYTHON")]:
        del os.environ[name]
    options = _parser().parse_args(arguments)
    chosen = options.shape or [shapes.TINY, "full"]
    plan = [
        (shape, name)
        for shape in chosen
        for name in (FOR_TINY if shape == shapes.TINY else FOR_SYNTHETIC)
        if not options.only or name in options.only
    ]
    found: dict[str, Any] = {
        "machine": machine.describe(options.threads),
        "quick": options.quick,
        "other_work_percent": [],
        "shapes": {},
    }
    paths: list[Path] = []
    with tempfile.TemporaryDirectory() as logs, tqdm(total=len(plan), unit="part") as bar:
        for shape, name in plan:
            bar.set_description_str(f"{shape}: {name}")
            bench = Bench(
                shape=shape,
                model=shapes.model_file(shape, CACHE),
                threads=options.threads,
                logs=Path(logs),
                quick=options.quick,
                say=partial(_show, bar, shape),
            )
            found["other_work_percent"].append(machine.other_work())
            part = found["shapes"].setdefault(shape, {"model": shapes.DESCRIPTIONS[shape]})
            part[name] = MEASUREMENTS[name](bench)
            # After each part, so that an interrupted run keeps its results.
            paths = _write(found, options.name)
            bar.update()
    for path in paths:
        print(path.relative_to(CHECKOUT))


def _write(found: dict[str, Any], name: str) -> list[Path]:
    """Write the results so far as data, tables and plots; return the paths."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    data, table = RESULTS / f"{name}.json", RESULTS / f"{name}.md"
    data.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    pictures = plots.draw(found, RESULTS, name)
    table.write_text(report.markdown(found, [picture.name for picture in pictures]))
    return [data, table, *pictures]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make bench BENCH='...'", description=__doc__)
    add = parser.add_argument
    add("--shape", action="append", choices=shapes.NAMES, help="a model to measure with, repeatable (tiny and full)")
    add("--only", action="append", choices=MEASUREMENTS, help="a part to measure, repeatable (all)")
    add("--threads", type=int, default=usable_cpus(), help="threads that compute (as many as CPUs may be used)")
    add("--name", default="latest", help="of the files in benchmarks/results (latest)")
    add("--quick", action="store_true", help="each part once: whether it runs, not how fast it is")
    return parser


if __name__ == "__main__":
    main(sys.argv[1:])
