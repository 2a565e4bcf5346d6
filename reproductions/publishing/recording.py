"""Keeping what was measured: copies in `results/`, and tables drawn from these alone."""

import logging
import shutil
from collections.abc import Iterable
from pathlib import Path

from pipeline import stage
from pipeline.artifacts import artifact, reader
from pipeline.artifacts.artifact import CODECS, MODEL, SHARDS, STUDY
from pipeline.artifacts.writer import Work
from pipeline.core import atomic, paths
from pipeline.core.errors import UserError
from pipeline.evaluation import identity, reading
from pipeline.experiments import naming
from pipeline.reporting import comparison, numbers, searches
from pipeline.stage import Made
from pipeline.training.training_records import TrainingRecord
from reproductions.publishing import recorded

log = logging.getLogger(__name__)

MOST_WEIGHTS = 8_000_000  # bytes; larger ones would swell the repository
SEARCH_FILES = (searches.RECORD, "best.yaml")


def record_experiment(name: str) -> Path:
    """Copy an experiment's configuration, history, training record and metrics to `results/<name>`.

    Weights of at most 8 MB come with them, so that `arcore.load` reads the folder and
    `python -m stages.rescore` scores it.
    """
    model = paths.model(name)
    evaluation = _evaluation(name)
    if (evaluation / "metrics.json").is_file():
        found = reading.read_evaluated(evaluation, (MODEL, SHARDS))
        identity.Entries.read().check(found.result)
    if (model / "training.json").is_file() and TrainingRecord.of(model) is None:
        raise UserError(f"{model / 'training.json'}: of other weights than model.safetensors")
    files = [model / file for file in ("config.yaml", "training.json", "history.csv")]
    weights = model / "model.safetensors"
    if weights.is_file() and weights.stat().st_size <= MOST_WEIGHTS:
        files += [model / "config.json", weights]
    return _record(paths.results() / name, [*files, *_measured(evaluation)])


def record_folds(name: str) -> Path:
    """Copy an outcome over folds to `results/<name>-folds`, each fold's model in a folder.

    Models come with it if their weights have at most 8 MB together.
    """
    title = naming.over_folds(name)
    found = _evaluation(title)
    files = [found / file for file in ("config.yaml", "folds.csv")]
    weights = sum(path.stat().st_size for path in found.glob(f"{naming.FOLD}*/model.safetensors"))
    models = sorted(found.glob(f"{naming.FOLD}*/*")) if weights <= MOST_WEIGHTS else []
    return _record(paths.results() / title, [*files, *_measured(found), *models])


def record_search(name: str) -> Path:
    """Copy a search's outcome and trials to `results/searches/<name>`."""
    search = paths.root() / "searches" / name
    files = [search / file for file in SEARCH_FILES]
    searches.read_record(search)
    return _record(paths.results() / "searches" / name, [*files, *sorted(search.glob("*.csv"))])


def record_study(name: str) -> Path:
    """Copy a study's record, table and pictures to `results/studies/<name>`."""
    study = paths.root() / "studies" / name
    files = [study / file for file in (STUDY.origin, STUDY.main)]
    if reader.read_origin(study, STUDY) is None:
        again = f"run `python -m reproductions.study {name}`"
        raise UserError(f"{files[0]}: expected the record of {files[1].name}, got none; {again}")
    return _record(paths.results() / "studies" / name, [*files, *sorted(study.glob("*.png"))])


def record_table(dataset: str) -> Path:
    """Copy what codecs need to `results/codecs/`, and draw `results/<dataset>.md`."""
    output, results, measured = artifact.codecs(dataset), paths.results(), None
    if (output.folder / CODECS.main).is_file():
        measured = reader.read(output) / CODECS.main
    read = recorded.read(dataset, results, measured)  # codecs of other shards are none
    if measured is not None:
        _write(results / "codecs" / f"{dataset}.json", measured.read_text(encoding="utf-8"))
    return _write(results / f"{dataset}.md", read.markdown)


def record_embedded(datasets: Iterable[str]) -> Path:
    """Keep the numbers of embedded data in `results/embedded.csv`; others' lines stay in place."""
    path = paths.results() / recorded.EMBEDDED
    before = recorded.read_lines(path) if path.is_file() else []
    lines = {
        one.dataset: [other for other in before if other.dataset == one.dataset] for one in before
    }
    for dataset in datasets:
        lines[dataset] = recorded.lines_of(numbers.numbers(comparison.build_report(dataset)))
    return _write(path, recorded.csv_text(line for found in lines.values() for line in found))


def _write(path: Path, text: str) -> Path:
    atomic.write_text(path, text)
    log.info("wrote %s", path)
    return path


def _evaluation(name: str) -> Path:
    found = sorted((paths.root() / "evaluation").glob(f"*/{name}"))
    if len(found) != 1:
        datasets = ", ".join(path.parent.name for path in found) or "none"
        raise UserError(f"evaluation/*/{name}: expected one evaluation, got {datasets}")
    return found[0]


def _measured(evaluation: Path) -> list[Path]:
    """The files of a result; its seconds are missing where DVC restored it from its cache."""
    return [evaluation / "metrics.json", *evaluation.glob("timing.json")]


def _record(folder: Path, files: Iterable[Path]) -> Path:
    """Copy files into a folder; a fold's model into a folder of the same name."""
    files = list(files)
    for source in {file.parent for file in files}:
        reader.check_files(source, "make it again")

    def make(work: Work) -> Made[Path]:
        for file in files:
            if not file.is_file():
                raise UserError(f"{file}: missing; run the stage that writes it")
            fold = file.parent.name if file.parent.name.startswith(naming.FOLD) else ""
            (work.folder / fold).mkdir(exist_ok=True)
            shutil.copyfile(file, work.folder / fold / file.name)
        return Made(folder, [f"wrote {folder}"])

    return stage.run(artifact.record(folder), make)
