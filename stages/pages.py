"""Write the page of each search and study beside its table, and the index of reports.

Example: python -m stages.pages
"""

from __future__ import annotations

import argparse

from stages import cli


def main() -> None:
    """Write the pages and print where they are."""
    argparse.ArgumentParser(prog="python -m stages.pages", description=__doc__).parse_args()
    from pipeline.reporting import search_pages  # here: --help needs no torch
    from pipeline.studies import page

    for path in (*search_pages.write_all(), *page.write_all()):  # the index comes last
        print(path)


if __name__ == "__main__":
    cli.run(main)
