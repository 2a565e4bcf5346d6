"""Run DVC's targets: stale stages side by side, a line for each."""

import argparse
from pathlib import Path

from stages import cli


def main() -> None:
    """Parse the command line and run what is stale."""
    parser = argparse.ArgumentParser(prog="python -m stages.repro", description=__doc__)
    parser.add_argument("targets", nargs="+", help="as `dvc repro` takes them")
    parser.add_argument(
        "--lanes", type=int, default=None, help="stages at a time; the CPUs are shared among them"
    )
    arguments = parser.parse_args()
    from pipeline.core import threads
    from pipeline.experiments import layout
    from pipeline.repro import update_targets

    if (path := Path(layout.FILE)).is_file():
        layout.complete(path)
    update_targets.repro(arguments.targets, arguments.lanes, threads.usable_cores())


if __name__ == "__main__":
    cli.run(main)
