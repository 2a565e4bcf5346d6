"""Have a trained experiment join a mixture; writes mixtures/<mixture>/<experiment>/."""

import argparse

from stages import cli


def main() -> None:
    """Parse the command line and score the validation rows."""
    parser = argparse.ArgumentParser(prog="python -m stages.join", description=__doc__)
    parser.add_argument("mixture", help="a key of `mixtures` in params.yaml")
    parser.add_argument("experiment", help="one of its members")
    arguments = parser.parse_args()
    from pipeline.experiments import compose

    config = compose.load_mixture(arguments.mixture)
    from pipeline.evaluation import mixing  # here: a refusal needs no torch

    mixing.join(config, arguments.experiment)


if __name__ == "__main__":
    cli.run(main)
