"""A dataset's report in each form."""

from __future__ import annotations

from pipeline.reporting import report_page, tables
from pipeline.reporting.comparison import Report
from pipeline.reporting.numbers import numbers


def markdown(report: Report) -> str:
    return tables.markdown(report, numbers(report))


def page(report: Report) -> str:
    return report_page.render(report, numbers(report))


def texts(report: Report) -> list[dict[str, str]]:
    """The texts of our rows and of codecs, by column."""
    return tables.results(numbers(report))
