"""Make the demo model: tokenizer, training, export, parity fixtures. Run from the repository's root."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from .export import write_ggml
from .parity import write_fixtures
from .tokenizer import train_tokenizer
from .train import train

DEMO = Path(__file__).resolve().parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m demo.recipe", description=__doc__)
    parser.add_argument("--minutes", type=float, default=75, help="length of the training (default: %(default)s)")
    parser.add_argument("--build", type=Path, default=DEMO / "build", help="folder of the intermediate files")
    parser.add_argument("--output", type=Path, default=DEMO / "chatglm3-demo.q8_0.bin", help="the model file")
    parser.add_argument("--workers", type=int, default=2, help="processes of one thread each (default: %(default)s)")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint in the build folder")
    arguments = parser.parse_args()
    arguments.build.mkdir(parents=True, exist_ok=True)

    checkpoint, tokenizer_path = arguments.build / "checkpoint.pt", arguments.build / "tokenizer.model"
    if not arguments.resume:
        checkpoint.unlink(missing_ok=True)
        tokenizer_path.write_bytes(train_tokenizer())
    tokenizer = tokenizer_path.read_bytes()
    model, record = train(tokenizer, arguments.minutes, checkpoint, arguments.workers)
    (arguments.build / "training.json").write_text(json.dumps(record, indent=2) + "\n")
    write_ggml(arguments.output, model, tokenizer)
    write_fixtures(arguments.output, arguments.output.parent)
    print(f"{arguments.output}: {arguments.output.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
