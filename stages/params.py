"""Write params.yaml as DVC writes it, with `overrides` in each entry and a row for each join.

Example: python -m stages.params && git diff params.yaml
"""

from __future__ import annotations

import argparse
import logging
import os
from pathlib import Path

from pipeline.core.errors import UserError
from stages import cli

log = logging.getLogger(__name__)


def main() -> None:
    """Parse the command line and rewrite params.yaml."""
    argparse.ArgumentParser(
        prog="python -m stages.params",
        description="Write params.yaml as DVC does, with `overrides` in each entry, so that "
        "`dvc exp run -S` can set any parameter and changes no other line, and with a row of "
        "`joins` for each member of each mixture.",
    ).parse_args()
    from pipeline.experiments import layout  # here: --help needs no YAML

    path = Path("params.yaml")
    try:
        before = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{path}: expected a file in {Path.cwd()}, found none") from None
    after = layout.completed(before)
    if after != before:
        partial = path.with_suffix(".partial")
        partial.write_text(after, encoding="utf-8")
        os.replace(partial, path)
    log.info("params.yaml: %s", "as it was" if after == before else "completed")


if __name__ == "__main__":
    cli.run(main)
