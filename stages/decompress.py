"""Decode the files of an archive of stages.compress, by the same model.

Example: python -m stages.decompress digits.arc --model models/digits-made --out digits
"""

import argparse
import sys
from pathlib import Path

from stages import cli


def main() -> None:
    """Parse the command line and decompress."""
    parser = argparse.ArgumentParser(prog="python -m stages.decompress", description=__doc__)
    parser.add_argument("archive", type=Path)
    parser.add_argument("--model", required=True, type=Path, help="folder of the same model")
    parser.add_argument("--out", required=True, type=Path, help="folder to write")
    options = parser.parse_args()
    from pipeline.uses import file_compression  # torch, which --help can do without

    progress = sys.stderr.isatty()
    print(
        file_compression.decompress(options.archive, options.model, options.out, progress=progress)
    )


if __name__ == "__main__":
    cli.run(main)
