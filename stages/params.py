"""Write params.yaml as DVC writes it, with `overrides` in each entry and a row for each join.

Example: python -m stages.params && git diff params.yaml
"""

from __future__ import annotations

import argparse
import logging
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
    from pipeline.core import atomic  # here: --help needs neither this nor YAML
    from pipeline.experiments import layout

    path = Path("params.yaml")
    try:
        before = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{path}: expected a file in {Path.cwd()}, found none") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not valid: {error}") from None
    after = layout.completed(before)
    if after != before:
        atomic.write_text(path, after)
    log.info("params.yaml: %s", "as it was" if after == before else "completed")


if __name__ == "__main__":
    cli.run(main)
