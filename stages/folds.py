"""Train and test an experiment on each fold of its dataset, and report the mean over folds.

Writes evaluation/<dataset>/<experiment>-folds/.
"""

from __future__ import annotations

import argparse

from stages import cli


def main() -> None:
    """Parse the command line and run all folds."""
    parser = argparse.ArgumentParser(prog="python -m stages.folds", description=__doc__)
    parser.add_argument(
        "experiment", nargs="?", help="a key of `folds` in params.yaml; none lists them"
    )
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="e.g. trainer.max_epochs=3"
    )
    arguments = parser.parse_args()
    if arguments.experiment is None:
        from pipeline.experiments import params_file  # here: --help needs no Hydra

        print(params_file.listed("folds"))
        return
    from pipeline.evaluation import cross_validation  # here: --help needs no torch

    cross_validation.run(arguments.experiment, arguments.overrides)


if __name__ == "__main__":
    cli.run(main)
