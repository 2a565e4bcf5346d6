"""Write the page of each study beside its table, and `reports/index.html`, which leads to them.

Example: python -m stages.pages
"""

from __future__ import annotations

import argparse

from stages import cli


def main() -> None:
    """Write the pages and print where they are."""
    argparse.ArgumentParser(prog="python -m stages.pages", description=__doc__).parse_args()
    from pipeline.studies import page  # here: --help needs no torch

    for path in page.write_all():
        print(path)


if __name__ == "__main__":
    cli.run(main)
