"""Stage fetch: bring a dataset's raw files to data/raw/<dataset>/, verified.

Example: ARCORE_MIRROR=/mnt/mirror python -m stages.fetch binarized_mnist
    python -m stages.fetch cars path=newer.csv
"""

import argparse

from stages import cli


def main() -> None:
    """Parse the command line and fetch."""
    from pipeline.datasets import catalog  # here: a warm process has it

    parser = argparse.ArgumentParser(
        prog="python -m stages.fetch",
        description="Bring a dataset's raw files to data/raw/<dataset>/ and verify them.",
        epilog="ARCORE_MIRROR=<folder or URL> is asked before the public address. Known datasets: "
        + ", ".join(catalog.list_datasets()),
    )
    parser.add_argument("dataset", help="name of the dataset")
    parser.add_argument(
        "overrides", nargs="*", metavar="option=value", help="options of the dataset, such as path"
    )
    arguments = parser.parse_args()
    settings = catalog.load_settings(arguments.dataset, arguments.overrides)
    from pipeline.data import fetching  # here: --help and an unknown name need no torch

    fetching.fetch(catalog.get_dataset(settings))


if __name__ == "__main__":
    cli.run(main)
