"""Say what a plain `dvc repro` means before it starts: which datasets, how long, what is shorter.

Example: python -m stages.estimate
"""

from __future__ import annotations

import argparse

from stages import cli


def main() -> None:
    """Parse the command line and print."""
    argparse.ArgumentParser(
        prog="python -m stages.estimate",
        description="Say what a plain `dvc repro` means, and which targets do not take hours.",
    ).parse_args()
    from pipeline.experiments import estimate, params_file  # here: --help needs no Hydra

    print(estimate.notice(params_file.read_params()), flush=True)


if __name__ == "__main__":
    cli.run(main)
