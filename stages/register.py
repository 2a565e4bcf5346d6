"""Stage `register`: evaluated models into MLflow's registry, once for each content.

Example: python -m stages.register digits; after a lost database, python -m stages.register --all
"""

from __future__ import annotations

import argparse
import json
import logging
import os
from pathlib import Path

from pipeline.core import paths
from pipeline.core.errors import UserError
from pipeline.registry import register
from stages import cli

log = logging.getLogger(__name__)


def main() -> None:
    """Register the models of the datasets named, or of all."""
    parser = argparse.ArgumentParser(
        prog="python -m stages.register",
        description="Register evaluated models in MLflow and write registry/<dataset>.json.",
    )
    parser.add_argument("datasets", nargs="*", metavar="dataset")
    parser.add_argument("--all", action="store_true", help="every dataset under evaluation/")
    options = parser.parse_args()
    if bool(options.datasets) == options.all:
        parser.error("expected dataset names, or --all")
    datasets = options.datasets
    if options.all:
        found = (paths.root() / "evaluation").glob("*/*/metrics.json")
        datasets = sorted({path.parent.parent.name for path in found})
        if not datasets:
            raise UserError("evaluation: nothing evaluated yet; run evaluate first")
    failed = []
    for dataset in datasets:
        try:
            write(dataset)
        except UserError as error:
            failed.append(str(error))
    if failed:
        raise UserError("; ".join(dict.fromkeys(failed)))


def write(dataset: str) -> Path:
    """Register one dataset's models and write `registry/<dataset>.json`.

    Raises:
        UserError: if nothing is evaluated, or the store cannot be reached.
    """
    registered = register.register_dataset(dataset)
    path = paths.root() / "registry" / f"{dataset}.json"
    path.parent.mkdir(exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(registered, indent=2, sort_keys=True) + "\n")
    os.replace(partial, path)
    champion = registered["champion"]
    if champion is not None:
        log.info("models:/%s@champion is %s", registered["name"], champion["experiment"])
    return path


if __name__ == "__main__":
    cli.run(main)
