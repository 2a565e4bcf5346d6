"""Stage dependencies: write which code decides the outputs of each stage, for DVC to compare.

Example: python -m stages.dependencies && git diff dependencies/
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from pipeline.core import dependencies
from stages import cli

log = logging.getLogger(__name__)


def main() -> None:
    """Parse the command line and write dependencies/ below the working directory."""
    argparse.ArgumentParser(
        prog="python -m stages.dependencies",
        description="Write the code that each stage of dvc.yaml depends on to dependencies/.",
    ).parse_args()
    changed = dependencies.write(Path.cwd(), Path("dependencies"))
    log.info("changed: %s", ", ".join(changed) or "nothing")


if __name__ == "__main__":
    cli.run(main)
