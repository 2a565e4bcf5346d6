"""Stage `register`: evaluated models into MLflow's registry, once for each content.

Example: python -m stages.register digits; after a lost database, python -m stages.register --all
"""

import argparse

from stages import cli


def main() -> None:
    """Register the models of the datasets named, or of all."""
    parser = argparse.ArgumentParser(prog="python -m stages.register", description=__doc__)
    parser.add_argument("datasets", nargs="*", metavar="dataset")
    parser.add_argument("--all", action="store_true", help="every dataset with results of entries")
    options = parser.parse_args()
    if bool(options.datasets) == options.all:
        parser.error("expected dataset names, or --all")
    from pipeline.datasets import catalog

    for dataset in options.datasets:
        catalog.load_settings(dataset)  # an unknown one is named, with what is near it
    from pipeline.registry import registration  # here: --help and an unknown name need no MLflow

    registration.register_all(options.datasets)


if __name__ == "__main__":
    cli.run(main)
