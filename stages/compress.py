"""Code PNG or WAV files losslessly by a trained model, into one archive.

Example: python -m stages.compress a.png b.png --model models/digits-made --out digits.arc
"""

import argparse
import sys
from pathlib import Path

from stages import cli


def main() -> None:
    """Parse the command line and compress."""
    parser = argparse.ArgumentParser(prog="python -m stages.compress", description=__doc__)
    parser.add_argument("files", nargs="+", type=Path, help=".png or .wav")
    parser.add_argument("--model", required=True, type=Path, help="folder of a trained model")
    parser.add_argument("--out", required=True, type=Path, help="archive to write, e.g. x.arc")
    parser.add_argument(
        "--classes", nargs="+", type=int, default=[], help="of a class-conditional model"
    )
    parser.add_argument(
        "--quantize", action="store_true", help="take the nearest levels of a sound's samples"
    )
    parser.add_argument(
        "--portable", action="store_true", help="decode on any processor, with any torch; slower"
    )
    options = parser.parse_args()
    from pipeline.uses import file_compression  # torch, which --help can do without

    summary = file_compression.compress(
        options.files,
        options.model,
        options.out,
        classes=options.classes,
        quantize=options.quantize,
        portable=options.portable,
        progress=sys.stderr.isatty(),
    )
    print(summary)


if __name__ == "__main__":
    cli.run(main)
