"""Stage fetch: bring a dataset's raw files to data/raw/<dataset>/, verified.

Example: ARCORE_MIRROR=/mnt/mirror python -m stages.fetch binarized_mnist
"""

from __future__ import annotations

import argparse

from pipeline import datasets, fetching
from stages import cli


def main() -> None:
    """Parse the command line and fetch."""
    parser = argparse.ArgumentParser(
        prog="python -m stages.fetch",
        description="Bring a dataset's raw files to data/raw/<dataset>/ and verify them.",
        epilog="ARCORE_MIRROR=<folder or URL> is asked before the public address. Known datasets: "
        + ", ".join(datasets.list_datasets()),
    )
    parser.add_argument("dataset", help="name of the dataset")
    arguments = parser.parse_args()
    fetching.fetch(datasets.get_dataset(datasets.load_config(arguments.dataset)))


if __name__ == "__main__":
    cli.run(main)
