"""Train and test an experiment on each fold of its dataset, and report the mean over folds.

Writes evaluation/<dataset>/<experiment>-folds/.
"""

from stages import cli


def main() -> None:
    """Parse the command line and run all folds."""
    from pipeline.experiments.params_file import parse_entry, read_entry

    given = parse_entry("stages.folds", "folds", __doc__, "trainer.max_epochs=3")
    read_entry("folds", given.entry)
    from pipeline.evaluation import (
        cross_validation,  # here: --help and an unknown name need no torch
    )

    cross_validation.run(given.entry, given.overrides)


if __name__ == "__main__":
    cli.run(main)
