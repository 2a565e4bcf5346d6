"""Stage fetch: bring a dataset's raw files to data/raw/<dataset>/, verified.

Example: ARCORE_MIRROR=/mnt/mirror python -m stages.fetch binarized_mnist
"""

from __future__ import annotations

import argparse

from stages import cli


def main() -> None:
    """Parse the command line and fetch."""
    from pipeline.data import fetching  # here: a warm process has them
    from pipeline.datasets import catalog

    parser = argparse.ArgumentParser(
        prog="python -m stages.fetch",
        description="Bring a dataset's raw files to data/raw/<dataset>/ and verify them.",
        epilog="ARCORE_MIRROR=<folder or URL> is asked before the public address. Known datasets: "
        + ", ".join(catalog.list_datasets()),
    )
    parser.add_argument("dataset", help="name of the dataset")
    arguments = parser.parse_args()
    fetching.fetch(catalog.get_dataset(catalog.load_config(arguments.dataset)))


if __name__ == "__main__":
    cli.run(main)
