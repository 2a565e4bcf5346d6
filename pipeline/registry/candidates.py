"""What is to be registered: evaluated experiments, each known by a hash of its content."""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from arcore.hyperparameters import CONDITION_FIELDS
from pipeline.core import paths
from pipeline.core.atomic import sha256_of
from pipeline.core.errors import UserError
from pipeline.evaluation.reading import Evaluated, read_results
from pipeline.evaluation.result_records import Result

CHAMPION = "champion"
_GIVEN = {"num_classes": "class", "local_classes": "local-classes"}
# What may change without changing the model; the number of members is hashed apart.
_VOLATILE = ("cluster", "evaluation")


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """An evaluated experiment that is to be registered."""

    evaluated: Evaluated
    folder: Path
    weights_sha256: str
    sha256: str

    @property
    def result(self) -> Result:
        """What was measured."""
        return self.evaluated.result

    @property
    def validation(self) -> Path:
        """The file of the nats of each validation row, which older evaluations lack."""
        return self.evaluated.folder / "scores_valid.csv"

    @property
    def given(self) -> list[str]:
        """The hyperparameters by which the model, or any of its members, asks for conditions."""
        config = self.evaluated.config
        return [name for name in CONDITION_FIELDS if config.asked(name) is not None]

    @property
    def registered_name(self) -> str:
        """The registered model that it is a version of."""
        return registered_name(self.result.dataset, self.given)

    @property
    def competes(self) -> bool:
        """Whether it may be champion: all its members are given what any of them is."""
        return all(map(self.evaluated.config.each_asks, self.given))

    @property
    def commit(self) -> str | None:
        """Of the code that trained it; None where the record is lost or of other weights."""
        training = self.evaluated.training
        return None if training is None else training.commit

    @property
    def name(self) -> str:
        """The experiment."""
        return self.evaluated.name


def registered_name(dataset: str, given: Iterable[str] = ()) -> str:
    """Return the name of a registered model: one for each dataset and what its rows come with.

    Models that are told the class of a row are compared with no others, and called differently.

    Example:
        >>> registered_name("digits_binary"), registered_name("digits", ["num_classes"])
        ('arcore-digits-binary', 'arcore-digits-given-class')
    """
    words = [_GIVEN.get(name, name.replace("_", "-")) for name in given]
    suffix = f"-given-{'-and-'.join(words)}" if words else ""
    return f"arcore-{dataset.replace('_', '-')}{suffix}"


def alias_of(experiment: str) -> str:
    """Return an experiment's alias, within MLflow's rules.

    Example:
        >>> alias_of("digits-made.v2"), alias_of("v2"), alias_of("latest")
        ('digits-made-v2', 'experiment-v2', 'experiment-latest')
    """
    alias = re.sub(r"[^A-Za-z0-9_-]", "-", experiment)[:200]
    reserved = re.fullmatch(r"[vV]\d+", alias) or alias.lower() in ("latest", CHAMPION)
    return f"experiment-{alias}" if reserved else alias


def content_hash(weights_sha256: str, content: Mapping[str, object], result: Result) -> str:
    """Hash what makes a model version: weights, members, config without volatile keys, nats."""
    kept = {key: value for key, value in content.items() if key not in _VOLATILE}
    digest = hashlib.sha256()
    digest.update(bytes.fromhex(weights_sha256))
    nats = (result.score.nats, result.valid_nats)
    described = [kept, result.num_members, result.context_frames, *nats]
    digest.update(json.dumps(described, sort_keys=True, default=str).encode())
    return digest.hexdigest()


def candidates(dataset: str) -> list[Candidate]:
    """Return the evaluated experiments of a dataset, by name, but those over folds."""
    return [_candidate(one) for one in read_results(dataset) if one.result.num_folds == 1]


def _candidate(evaluated: Evaluated) -> Candidate:
    folder = paths.model(evaluated.name)
    weights = folder / "model.safetensors"
    if not weights.is_file():
        raise UserError(f"{weights}: missing; train the experiment first")
    weights_sha256 = sha256_of(weights)
    measured = evaluated.result.weights_sha256
    if measured not in (None, weights_sha256):  # a training ended since it was read
        raise UserError(
            f"{weights}: expected the weights that were evaluated ({measured[:12]}), got "
            f"{weights_sha256[:12]}; run `python -m stages.evaluate {evaluated.name}`"
        )
    return Candidate(
        evaluated=evaluated,
        folder=folder,
        weights_sha256=weights_sha256,
        sha256=content_hash(weights_sha256, evaluated.config.content, evaluated.result),
    )
