"""Stage code: write code.yaml, the hashes of the code that decides each stage's outputs."""

import argparse
import logging
from pathlib import Path

from pipeline.core import paths, stage_code
from stages import cli

log = logging.getLogger(__name__)
SHOWN = 6  # keys in the log line


def main() -> None:
    """Parse the command line, write code.yaml into the working directory, and compare."""
    parser = argparse.ArgumentParser(prog="python -m stages.code", description=__doc__)
    parser.add_argument(
        "--why", metavar="KEY", help="which files of a key, e.g. train.nade, changed since dvc.lock"
    )
    parser.add_argument(
        "--locked", nargs="*", metavar="TARGET", help="which stages in dvc.lock are out of step"
    )
    parser.add_argument(
        "--local", action="store_true", help="write local/code.yaml, with your own datasets"
    )
    arguments = parser.parse_args()
    changed = stage_code.write(Path.cwd(), arguments.local)
    shown = ", ".join(changed[:SHOWN]) + ", ..." * (len(changed) > SHOWN)
    file = f"{paths.LOCAL}/{stage_code.FILE}" if arguments.local else stage_code.FILE
    log.info("%s: %d keys changed%s", file, len(changed), shown and f": {shown}")
    if arguments.why is None and arguments.locked is None:
        return
    from pipeline.repro import dvc_lock  # here: it imports DVC

    if arguments.why is not None:
        print("\n".join(dvc_lock.why(Path.cwd(), arguments.why)))
    if arguments.locked is not None:
        print("\n".join(dvc_lock.out_of_step(arguments.locked)))


if __name__ == "__main__":
    cli.run(main)
