"""A dataset's report in each form."""

from pathlib import Path

from pipeline.reporting import report_page, tables
from pipeline.reporting.comparison import Report, build_report
from pipeline.reporting.numbers import numbers
from tests.support.measured_files import MeasuredFiles


def markdown(report: Report) -> str:
    return tables.markdown(report, numbers(report))


def page(report: Report) -> str:
    return report_page.render(report, numbers(report))


def texts(report: Report) -> list[dict[str, str]]:
    """The texts of our rows and of codecs, by column."""
    return tables.results(numbers(report))


def mnist(files: MeasuredFiles) -> Report:
    """Three models of binarised MNIST, two of them with counterparts."""
    files.manifest("binarized_mnist", "binarized_mnist")
    one = {"model": "MADE", "variant": "1hl, 1 mask"}
    many = {"model": "MADE", "variant": "2hl, 32 masks"}
    files.evaluated("binarized_mnist", "mnist-made", 88.9, counterpart=one)
    files.evaluated("binarized_mnist", "mnist-made-32", 86.9, counterpart=many, num_members=32)
    files.evaluated("binarized_mnist", "mnist-bound", 95.0, exact=False)
    return build_report("binarized_mnist")


def conditional(files: MeasuredFiles, dataset: str, name: str, value: float) -> None:
    """A model that is given the class."""
    files.evaluated(dataset, name, value)
    config = Path("models", name, "config.yaml")
    config.write_text(config.read_text().replace("name: made", "name: made\n  num_classes: 10"))
