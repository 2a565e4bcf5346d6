"""Write params.yaml as DVC does, with `overrides` in each entry, and dvc.yaml's mixtures.

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
        "`dvc exp run -S` can set any parameter and changes no other line; and, in dvc.yaml, the "
        "stages of its mixtures.",
    ).parse_args()
    from pipeline.experiments import (  # here: --help needs no YAML
        layout,
        mixture_stages,
        params_file,
    )

    path = Path("params.yaml")
    try:
        before = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{path}: expected a file in {Path.cwd()}, found none") from None
    _replace(path, before, layout.completed(before))
    mixtures = params_file.read_params(path).get("mixtures") or {}
    path = Path("dvc.yaml")
    if path.is_file():
        before = path.read_text(encoding="utf-8")
        _replace(path, before, mixture_stages.completed(before, mixtures))


def _replace(path: Path, before: str, after: str) -> None:
    if after != before:
        partial = path.with_suffix(".partial")
        partial.write_text(after, encoding="utf-8")
        os.replace(partial, path)
    log.info("%s: %s", path, "as it was" if after == before else "completed")


if __name__ == "__main__":
    cli.run(main)
