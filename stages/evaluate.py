"""Evaluate a trained experiment on its test split; writes evaluation/<dataset>/<experiment>/."""

from stages import cli


def main() -> None:
    """Parse the command line and evaluate."""
    from pipeline.experiments.params_file import parse_entry  # here: a warm process has it

    given = parse_entry(
        "stages.evaluate", "experiments or mixtures", __doc__, "evaluation.num_members=8"
    )
    from pipeline.experiments import compose

    config = compose.load(given.entry, given.overrides)
    from pipeline.evaluation import experiment_evaluation  # here: a refusal needs no torch

    experiment_evaluation.evaluate(config)


if __name__ == "__main__":
    cli.run(main)
