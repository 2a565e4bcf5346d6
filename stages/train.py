"""Train an experiment of params.yaml; writes models/<experiment>/."""

from stages import cli


def main() -> None:
    """Parse the command line and train."""
    from pipeline.experiments.params_file import parse_entry  # here: a warm process has it

    given = parse_entry(
        "stages.train", "experiments", __doc__, "trainer.max_epochs=3 cluster=gpu", fresh=True
    )
    from pipeline.experiments import compose  # here: --help needs no torch
    from pipeline.training import driver

    driver.train(compose.load(given.entry, given.overrides), given.fresh)


if __name__ == "__main__":
    cli.run(main)
