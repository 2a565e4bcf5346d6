"""What an output is: its kind, its folder, what it is made of, and the command that makes it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from pipeline.core import paths
from pipeline.core.atomic import sha256_of

SEAL = "artifact.json"


@dataclass(frozen=True)
class Kind:
    """What outputs of one kind have in common.

    Attributes:
        verb: names the lock.
        doing: names the work in errors.
        main: the file that stands for the content.
        origin: the file that DVC ignores, with all that differs from run to run; "" for none.
        hash_key: of the origin: the hash of the main file that it belongs to.
        content_key: of the main file, a JSON object: the hash of the content, where the file says
            it itself.
        recorded: keys of the main file, a JSON object, that name the hash of an input, by the
            verb of its kind: for an output without a seal.
        sealed: whether the hash of each file is kept; else the main file has them, or Git does.
        waits: for another process of the same, which else is refused.
        in_place: whether files are added to the folder that is there, which else is replaced.
    """

    verb: str
    doing: str
    main: str
    origin: str = ""
    hash_key: str = ""
    content_key: str = ""
    recorded: Mapping[str, str] = field(default_factory=dict)
    sealed: bool = True
    waits: bool = False
    in_place: bool = False


RAW = Kind("fetch", "fetching", "", sealed=False, waits=True, in_place=True)
SHARDS = Kind(
    "preprocess", "preprocessing", "manifest.json", content_key="sha256", sealed=False, waits=True
)
MODEL = Kind(
    "train", "training", "model.safetensors", origin="training.json", hash_key="weights_sha256"
)
MIXTURE = replace(MODEL, verb="mix", doing="mixing")
MEMBER = replace(MODEL, verb="join", doing="joining", waits=True)
EVALUATION = Kind(
    "evaluate",
    "evaluating",
    "metrics.json",
    origin="timing.json",
    hash_key="metrics_sha256",
    recorded={"train": "weights_sha256", "preprocess": "dataset_sha256"},
)
FOLDS = replace(EVALUATION, verb="folds", doing="folds of", recorded={})
USE = Kind("use", "using", "use.json", origin="timing.json", hash_key="use_sha256")
USES = replace(USE, in_place=True)  # all of an experiment's, each a folder of its own
CODECS = Kind(
    "codecs", "codecs of", "codecs.json", recorded={"preprocess": "dataset_sha256"}, waits=True
)
SEARCH = Kind("tune", "searching", "trials.csv", origin="search.json", hash_key="trials_sha256")
STUDY = Kind("study", "studying", "table.csv", origin="study.json", hash_key="table_sha256")
FILES = Kind("decompress", "decompressing", "", sealed=False)
REPORT = Kind("report", "reporting", "table.md", sealed=False, waits=True)
REGISTRATION = Kind("register", "registering", "registration.json", sealed=False, waits=True)
RECORD = Kind("record", "recording", "metrics.json", sealed=False)


@dataclass(frozen=True)
class Artifact:
    """An output, the command that makes it and what it is made of; errors and locks name it."""

    kind: Kind
    name: str
    folder: Path
    command: str
    inputs: tuple[Artifact, ...] = ()

    @property
    def label(self) -> str:
        """The folder below the root, as errors and seals have it."""
        folder, root = self.folder.absolute(), paths.root()
        return folder.relative_to(root).as_posix() if folder.is_relative_to(root) else str(folder)

    def content_sha256(self) -> str | None:
        """Return the hash of the content as it is now; None if there is none."""
        path = self.folder / self.kind.main
        if not path.is_file():
            return None
        if not self.kind.content_key:
            return sha256_of(path)
        try:
            said = json.loads(path.read_bytes())[self.kind.content_key]
        except (ValueError, LookupError, TypeError):  # damaged, as its reader says
            return None
        return str(said)


def _made(kind: Kind, name: str, folder: Path, *inputs: Artifact, entry: str = "") -> Artifact:
    """Return the output that a kind's stage makes of an entry, or of what overrides made of it."""
    entry, _, settings = (entry or name).partition("--")
    command = f"python -m stages.{kind.verb} {entry}" + (f"  # with {settings}" if settings else "")
    return Artifact(kind, name, folder, command, inputs)


def raw(dataset: str) -> Artifact:
    """Return the raw files of a dataset."""
    return _made(RAW, dataset, paths.raw(dataset))


def shards(dataset: str) -> Artifact:
    """Return the shards of a dataset."""
    return _made(SHARDS, dataset, paths.shards(dataset))


def model(experiment: str, dataset: str) -> Artifact:
    """Return the trained model of an experiment."""
    return _made(MODEL, experiment, paths.model(experiment), shards(dataset))


def usable_model(experiment: str, dataset: str) -> Artifact:
    """Return the trained model of an experiment, or else the one kept in results/."""
    return replace(model(experiment, dataset), folder=paths.usable_model(experiment))


def mixture(name: str, dataset: str) -> Artifact:
    """Return the model of a mixture."""
    return _made(MIXTURE, name, paths.model(name), shards(dataset))


def member(mixture: str, experiment: str, dataset: str) -> Artifact:
    """Return a member of a mixture, with its scores."""
    folder, inputs = (
        paths.root() / "mixtures" / mixture,
        (model(experiment, dataset), shards(dataset)),
    )
    name, entry = f"{mixture}-{experiment}", f"{mixture} {experiment}"
    return _made(MEMBER, name, folder / experiment, *inputs, entry=entry)


def evaluation(experiment: str, dataset: str, result_name: str | None = None) -> Artifact:
    """Return the evaluation of an experiment, maybe under another name."""
    name, inputs = result_name or experiment, (model(experiment, dataset), shards(dataset))
    return _made(EVALUATION, name, paths.evaluation(dataset, name), *inputs, entry=experiment)


def folds(experiment: str, dataset: str, result_name: str, title: str) -> Artifact:
    """Return the outcome of an experiment over folds, `evaluation/<dataset>/<title>`."""
    return _made(FOLDS, result_name, paths.evaluation(dataset, title), entry=experiment)


def codecs(dataset: str) -> Artifact:
    """Return what codecs need for the test rows of a dataset."""
    return _made(CODECS, dataset, paths.root() / "codecs" / dataset, shards(dataset))


def search(name: str, dataset: str, command: str) -> Artifact:
    """Return what a search of hyperparameters found."""
    return Artifact(SEARCH, name, paths.root() / "searches" / name, command, (shards(dataset),))


def report(dataset: str) -> Artifact:
    """Return the report of a dataset."""
    return _made(REPORT, dataset, paths.root() / "reports" / dataset)


def registration(dataset: str) -> Artifact:
    """Return what the registry holds of a dataset."""
    return _made(REGISTRATION, dataset, paths.root() / "registry" / dataset)


def files(folder: Path) -> Artifact:
    """Return a folder of a user's choice."""
    return Artifact(FILES, folder.name, folder, "")


def record(folder: Path) -> Artifact:
    """Return a folder of `results/`, which Git keeps."""
    name = folder.relative_to(paths.results()).as_posix().replace("/", "-")
    return Artifact(RECORD, name, folder, "python -m reproductions.results")
