"""Write the page of each search next to its table, and the index of reports.

Example: python -m stages.pages
"""

import argparse

from stages import cli


def main() -> None:
    """Write the pages and print where they are."""
    argparse.ArgumentParser(prog="python -m stages.pages", description=__doc__).parse_args()
    from pipeline.reporting import report_files, search_page  # here: --help needs no torch

    for path in search_page.write_all():
        print(path)
    report_files.write_index()


if __name__ == "__main__":
    cli.run(main)
