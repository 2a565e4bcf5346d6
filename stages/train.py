"""Train an experiment of params.yaml; writes models/<experiment>/."""

from stages import cli


def main() -> None:
    """Parse the command line and train."""
    from pipeline.experiments.params_file import parse_entry  # here: a warm process has it

    given = parse_entry(
        "stages.train", "experiments", __doc__, "trainer.max_epochs=3 cluster=gpu", fresh=True
    )
    from pipeline.experiments import compose

    config = compose.load(given.entry, given.overrides)
    from pipeline.training import driver  # here: what is refused before needs no torch

    driver.train(config, given.fresh)


if __name__ == "__main__":
    cli.run(main)
