"""Write params.yaml as DVC writes it, with the keys that DVC needs and a row for each join.

It does the same for reproductions/params.yaml and local/params.yaml, if they exist. Next to
local/params.yaml, it also writes a dvc.yaml of the same stages.

Example: python -m stages.params && git diff params.yaml
"""

import argparse
import logging
from pathlib import Path

from pipeline.core.errors import UserError
from stages import cli

log = logging.getLogger(__name__)


def main() -> None:
    """Parse the command line and rewrite params.yaml."""
    argparse.ArgumentParser(prog="python -m stages.params", description=__doc__).parse_args()
    from pipeline.core import paths  # here: --help needs neither this nor YAML
    from pipeline.experiments import layout

    files = paths.params_files(Path())
    if not files or files[0].parent != Path():
        raise UserError(f"{layout.FILE}: expected a file in {Path.cwd()}, found none")
    for path in files:
        log.info("%s: %s", path, "completed" if layout.complete(path) else "as it was")


if __name__ == "__main__":
    cli.run(main)
