"""Stage `codecs`: what codecs need for test images and clips, and simple models for sounds.

Writes codecs/<dataset>/codecs.json, without measurements for a dataset of none of these.

Example: python -m stages.codecs cifar10_4k
"""

import argparse

from stages import cli


def main() -> None:
    """Parse the command line and measure."""
    parser = argparse.ArgumentParser(prog="python -m stages.codecs", description=__doc__)
    parser.add_argument("dataset", help="name of a dataset that is preprocessed")
    dataset = parser.parse_args().dataset
    from pipeline.datasets import catalog

    catalog.load_settings(dataset)
    from pipeline.evaluation import baselines  # here: --help and an unknown name need no torch

    baselines.write(dataset)


if __name__ == "__main__":
    cli.run(main)
