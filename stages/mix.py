"""Mix trained experiments, with weights fitted to validation rows; writes models/<mixture>/."""

from __future__ import annotations

import argparse

from stages import cli


def main() -> None:
    """Parse the command line and mix."""
    parser = argparse.ArgumentParser(prog="python -m stages.mix", description=__doc__)
    parser.add_argument(
        "mixture", nargs="?", help="a key of `mixtures` in params.yaml; none lists them"
    )
    mixture = parser.parse_args().mixture
    if mixture is None:
        from pipeline.experiments import params_file  # here: --help needs no Hydra

        print(params_file.listed("mixtures"))
        return
    from pipeline.evaluation import mixing  # here: --help needs no torch
    from pipeline.experiments import compose

    mixing.mix(compose.load_mixture(mixture))


if __name__ == "__main__":
    cli.run(main)
