"""Run a study of params.yaml, a comparison that is no single training; writes studies/<study>/.

Example: python -m reproductions.study digits-race
"""

import argparse

from stages import cli


def main() -> None:
    """Parse the command line and run a study; without arguments list them."""
    parser = argparse.ArgumentParser(
        prog="python -m reproductions.study",
        description="Run a study of params.yaml; write studies/<study>/.",
        epilog="The kinds of studies are in docs/studies.md.",
    )
    parser.add_argument(
        "study", nargs="?", help="a key of `studies` in params.yaml; none lists them"
    )
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="settings of the study, e.g. masks=[1,2]"
    )
    arguments = parser.parse_args()
    if arguments.study is None:
        from pipeline.experiments import params_file  # here: --help needs no Hydra

        print(params_file.listed("studies"))
        return
    from reproductions.studies import run_studies  # here: --help needs no torch

    folder = run_studies.run(arguments.study, arguments.overrides)
    print((folder / "table.csv").read_text(encoding="utf-8"), end="")


if __name__ == "__main__":
    cli.run(main)
