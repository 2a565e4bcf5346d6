"""Search hyperparameters with Ray Tune, as params.yaml says; writes searches/<search>/.

Example: python -m stages.tune digits-made num_trials=4 cluster.max_concurrent_trials=1
"""

from __future__ import annotations

import argparse

from stages import cli


def main() -> None:
    """Parse the command line and search."""
    parser = argparse.ArgumentParser(prog="python -m stages.tune", description=__doc__)
    parser.add_argument(
        "search", nargs="?", help="a key of `searches` in params.yaml; none lists them"
    )
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="e.g. num_trials=50 cluster=gpu"
    )
    parser.add_argument("--fresh", action="store_true", help="forget an unfinished search")
    arguments = parser.parse_intermixed_args()
    if arguments.search is None:
        from pipeline.experiments import params_file  # here: --help needs no Hydra

        print(params_file.listed("searches"))
        return
    from pipeline.search import tuning  # here: --help needs no torch

    tuning.tune(arguments.search, arguments.overrides, arguments.fresh)


if __name__ == "__main__":
    cli.run(main)
