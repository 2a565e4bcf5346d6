"""Evaluate a trained experiment on its test split; writes evaluation/<dataset>/<experiment>/."""

from __future__ import annotations

import argparse

from stages import cli


def main() -> None:
    """Parse the command line and evaluate."""
    parser = argparse.ArgumentParser(prog="python -m stages.evaluate", description=__doc__)
    parser.add_argument(
        "experiment",
        nargs="?",
        help="a key of `experiments` or `mixtures` in params.yaml; none lists the experiments",
    )
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="e.g. evaluation.num_members=8"
    )
    arguments = parser.parse_args()
    if arguments.experiment is None:
        from pipeline.experiments import params_file  # here: --help needs no Hydra

        print(params_file.listed("experiments"))
        return
    from pipeline.evaluation import experiment_evaluation  # here: --help needs no torch
    from pipeline.experiments import compose

    experiment_evaluation.evaluate(compose.load(arguments.experiment, arguments.overrides))


if __name__ == "__main__":
    cli.run(main)
