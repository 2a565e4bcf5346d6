"""Search hyperparameters with Ray Tune, as params.yaml says; writes searches/<search>/.

Example: python -m stages.tune digits-made num_trials=4 cluster.max_concurrent_trials=1
"""

from stages import cli


def main() -> None:
    """Parse the command line and search."""
    from pipeline.experiments.params_file import parse_entry, read_entry

    given = parse_entry("stages.tune", "searches", __doc__, "num_trials=50 cluster=gpu", fresh=True)
    read_entry("searches", given.entry)
    from pipeline.search import tuning  # here: --help and an unknown name need no torch

    tuning.tune(given.entry, given.overrides, given.fresh)


if __name__ == "__main__":
    cli.run(main)
