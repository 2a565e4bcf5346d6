"""Train an experiment of params.yaml; writes models/<experiment>/."""

from __future__ import annotations

import argparse

from stages import cli


def main() -> None:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(prog="python -m stages.train", description=__doc__)
    parser.add_argument(
        "experiment", nargs="?", help="a key of `experiments` in params.yaml; none lists them"
    )
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="e.g. trainer.max_epochs=3 cluster=gpu"
    )
    parser.add_argument("--fresh", action="store_true", help="forget an unfinished training")
    arguments = parser.parse_intermixed_args()
    if arguments.experiment is None:
        from pipeline.experiments import params_file  # here: --help needs no Hydra

        print(params_file.listed("experiments"))
        return
    from pipeline.experiments import compose  # here: --help needs no torch
    from pipeline.training import driver

    driver.train(compose.load(arguments.experiment, arguments.overrides), arguments.fresh)


if __name__ == "__main__":
    cli.run(main)
