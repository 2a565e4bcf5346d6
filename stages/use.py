"""Stage `use`: what a trained model is for, as figures and numbers.

Example: python -m stages.use inpainting digits-nade num_rows=50
"""

import argparse

from pipeline.uses import use_records
from stages import cli


def main() -> None:
    """Parse the command line and run a use; without arguments list them."""
    parser = argparse.ArgumentParser(
        prog="python -m stages.use",
        description="Use a trained model; write evaluation/<dataset>/uses/<experiment>/<use>/.",
        epilog=use_records.text_of(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("use", nargs="?", metavar="USE", help="as listed below")
    parser.add_argument(
        "experiment",
        nargs="?",
        metavar="EXPERIMENT",
        help="whose model is in models/, or kept in results/",
    )
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="settings of the use, e.g. seed=1"
    )
    arguments = parser.parse_args()
    if arguments.use is None:
        print(use_records.text_of())
        return
    from pipeline.uses import run_uses  # here: --help needs no torch

    if arguments.experiment is None:
        if arguments.use in run_uses.USE_TYPES:
            print(f"settings:\n{run_uses.USE_TYPES[arguments.use].settings_text()}")
            return
        parser.error("which experiment?")
    run_uses.run(arguments.use, arguments.experiment, arguments.overrides)


if __name__ == "__main__":
    cli.run(main)
