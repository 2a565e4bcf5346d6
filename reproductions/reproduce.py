"""Train and evaluate what results/ was measured with, by `dvc repro` on the reproductions' stages.

DVC reads every dvc.yaml of a checkout, so reproductions/dvc.yaml is there only while this runs:
otherwise `dvc status` would list some thousand lines of stages that take hours. If a kill leaves
the file, the next run removes it.

Example: python -m reproductions.reproduce evaluate@dna-nade
"""

import argparse
import fcntl
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from pipeline.core import atomic, paths
from pipeline.experiments import layout
from stages import cli

FILE = Path(paths.REPRODUCTIONS) / "dvc.yaml"


def main() -> None:
    """Parse the command line and run DVC, which gets all options but --help."""
    parser = argparse.ArgumentParser(prog="python -m reproductions.reproduce", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "targets", nargs="*", metavar="stage@entry", help="such as report@dna; none for all"
    )
    arguments, options = parser.parse_known_args()
    targets = [f"{FILE}:{target}" for target in arguments.targets] or [str(FILE)]
    sys.exit(run(["repro", *options, *targets]))


def run(arguments: Sequence[str]) -> int:
    """Run a command of DVC with the reproductions' dvc.yaml in place; return its status."""
    from dvc.cli import main as dvc  # here: --help needs no DVC

    stages = layout.pipeline_of(paths.REPRODUCTIONS, Path("dvc.yaml").read_text(encoding="utf-8"))
    paths.work().mkdir(exist_ok=True)
    with (paths.work() / "reproductions.lock").open("w") as users:
        fcntl.flock(users, fcntl.LOCK_SH)
        atomic.write_text(FILE, stages)
        try:
            return int(dvc(list(arguments)))
        finally:
            with suppress(BlockingIOError):  # others still need the file
                fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
                FILE.unlink(missing_ok=True)


if __name__ == "__main__":
    cli.in_one_line(main)
