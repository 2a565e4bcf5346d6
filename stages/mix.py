"""Mix trained experiments, with weights fitted to validation rows; writes models/<mixture>/."""

from stages import cli


def main() -> None:
    """Parse the command line and mix."""
    from pipeline.experiments.params_file import parse_entry  # here: a warm process has it

    given = parse_entry("stages.mix", "mixtures", __doc__)
    from pipeline.experiments import compose

    config = compose.load_mixture(given.entry)
    from pipeline.evaluation import mixing  # here: a refusal needs no torch

    mixing.mix(config)


if __name__ == "__main__":
    cli.run(main)
