"""Typed configuration of an experiment, validated on construction."""

import dataclasses
import hashlib
import json
import typing
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar, cast

from pydantic import Field

from pipeline.core.errors import require, unknown_name
from pipeline.core.records import validated
from pipeline.datasets.options import NOT_HASHED

T = TypeVar("T")
Count = Annotated[int, Field(ge=1)]
Natural = Annotated[int, Field(ge=0)]
Samples = Annotated[int, Field(ge=0, le=100_000)]
Seed = Annotated[int, Field(ge=0, lt=1 << 31)]
Decay = Annotated[float, Field(ge=0, lt=1)]
Factor = Annotated[float, Field(ge=0, le=1)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Optimizer = Literal["adam", "adamw", "rmsprop", "sgd", "adagrad", "adadelta"]
Schedule = Literal["constant", "linear", "cosine", "inverse_time", "exponential"]
ADDED = {  # trainer's, that are recorded where they are not the default
    "train_rows": None,
    "initial_weights": None,
    "max_steps": None,
    "accumulate": 1,
    "checkpoint_activations": False,
    "compress_gradients": False,
}
Row = dict[str, str]  # {model, variant, split} of a published row


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """An optimiser of torch.optim by name; options that it lacks must stay at their default."""

    name: Optimizer = "adam"
    learning_rate: Positive = 1e-3
    weight_decay: NonNegative = 0.0
    momentum: Decay = 0.0
    betas: tuple[Decay, Decay] = (0.9, 0.999)
    eps: Positive | None = None

    def __post_init__(self) -> None:
        where = "trainer.optimizer."
        fits = self.momentum == 0 or self.name in ("sgd", "rmsprop")
        require(fits, where + "momentum", f"0 for {self.name}", self.momentum)
        fits = self.name in ("adam", "adamw") or self.betas == (0.9, 0.999)
        require(fits, where + "betas", f"the default for {self.name}", self.betas)
        fits = self.eps is None or self.name != "sgd"
        require(fits, where + "eps", "null for sgd", self.eps)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """The learning rate over steps, as a factor of the optimiser's.

    In `warmup_steps` it rises linearly, from 1 / warmup_steps. Then, s steps later: constant;
    linear or cosine from 1 to `final_factor` over the rest of the run; inverse_time
    1 / (1 + decay * s); exponential exp(-decay * s). Options that a schedule does not read must
    stay at their default.
    """

    name: Schedule = "cosine"
    warmup_steps: Natural = 0
    final_factor: Factor = 0.0
    decay: NonNegative = 0.0

    def __post_init__(self) -> None:
        where = "trainer.schedule."
        fits = self.final_factor == 0 or self.name in ("linear", "cosine")
        require(fits, where + "final_factor", f"0 for {self.name}", self.final_factor)
        fits = self.decay == 0 or self.name in ("inverse_time", "exponential")
        require(fits, where + "decay", f"0 for {self.name}", self.decay)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainerConfig:
    """How a model is trained.

    Attributes:
        max_epochs: passes over the training split.
        max_steps: optimiser steps after which training ends, if `max_epochs` takes more: the epoch
            under way is validated and ends there. null: no limit.
        batch_size: rows of one optimiser step, over all workers together.
        accumulate: parts in which each worker computes its rows of a step, for batches larger than
            its memory. Their gradients add up to the batch's; dropout draws other masks.
        checkpoint_activations: compute the activations of repeated layers again in the backward
            pass, instead of keeping them: less memory, a longer step, the same gradients. Without
            effect on models that have none (NADE, RNADE, Deep NADE, ConvNADE, MADE).
        compress_gradients: workers exchange gradients in bfloat16, which halves the traffic of
            float32 and rounds them to 8 bits. Without effect on one worker.
        seed: of weights, shuffling, masks and dropout.
        ema_decay: decay of the averaged weights that are validated and kept; 0 turns it off.
        clip_norm: largest norm of the gradient; null turns clipping off.
        precision: float32, bfloat16 (autocast), float64, or auto: bfloat16 where every worker's
            hardware multiplies it faster, else float32.
        compile: run the training call through torch.compile.
        patience: stop after so many validations without a new best; null never stops.
        validate_every: epochs from one validation to the next.
        validate_members: members of the ensemble that is validated (1: the model itself; null: as
            many as the model has masks or orderings, and exactly: where they are orderings, by D
            passes for each instead of a masked estimate). An entry that does not say so validates
            all masks (`member_defaults`).
        checkpoint_every: epochs from one checkpoint to the next.
        shuffle_rows: rows that a worker holds and shuffles at once; a worker's part of the split
            is shuffled whole if it is no larger, else streamed in windows of so many.
        window: samples of a training window of sounds, or steps of one of piano rolls, of which
            `batch_size` counts windows then; null trains on whole rows. Without effect on other
            data.
        transpose: keys by which a piano roll is moved up or down at most, as far as its keyboard
            goes: anew for each piece and epoch, in training alone. Without effect on other data.
        train_rows: rows of the training split that are learned from, its first ones as they are
            stored, where it is shuffled whole and not of sounds; null is all. No random subset:
            folders of images are stored class by class, of which the first rows have few.
        initial_weights: what training starts from instead of random weights: the folder of a model
            (`models/...`, `results/...`, or one that `arcore.save` wrote) or a .safetensors file,
            of the same architecture; null is random. A resumed training ignores it.
    """

    max_epochs: Count = 20
    max_steps: Count | None = None
    batch_size: Count = 100
    accumulate: Count = 1
    checkpoint_activations: bool = False
    compress_gradients: bool = False
    seed: Seed = 0
    optimizer: OptimizerConfig = dataclasses.field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = dataclasses.field(default_factory=ScheduleConfig)
    ema_decay: Decay = 0.0
    clip_norm: Annotated[float, Field(gt=0)] | None = None
    precision: Literal["float32", "bfloat16", "auto", "float64"] = "float32"
    compile: bool = False
    patience: Count | None = None
    validate_every: Count = 1
    validate_members: Count | None = 1
    checkpoint_every: Count = 1
    shuffle_rows: Count = 262_144
    window: Count | None = None
    transpose: Natural = 0
    train_rows: Count | None = None
    initial_weights: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """How a model is evaluated.

    Attributes:
        num_members: members of the ensemble that is scored (1: the model itself; null: as many as
            the model has masks or orderings, as in an entry that does not say so).
        batch_size: rows scored at once; of large events no more than have 2^21 dimensions and 2^27
            probabilities of levels.
        num_test_rows: rows that are scored, a random subset of the split; null scores all. The
            validation split is scored on as many.
        num_samples: events sampled for the pictures; 0 draws none, where that takes too long.
        seed: of the samples and of the subset.
        published: {model, variant} of the published row that the table compares with; and its split
            where no row of them is of `test`, and there are several.
        published_member: likewise for one member of an ensemble, which has a row of its own then.
        importance_samples: of each row, for the estimate that goes with the bound of a model with
            latents; 0 makes none.
        importance_rows: rows of which that estimate is made, at most: a random subset, on which it
            is compared with the bound, which all rows have.
        published_importance: likewise for that estimate, which has a row of its own.
        coded: whether the scored rows are compressed and decompressed with the model too.
    """

    num_members: Count | None = 1
    batch_size: Count = 500
    num_test_rows: Annotated[int, Field(ge=2)] | None = None
    num_samples: Samples = 64
    seed: Seed = 0
    published: Row | None = None
    published_member: Row | None = None
    importance_samples: Samples = 100
    importance_rows: Annotated[int, Field(ge=2)] = 1000
    published_importance: Row | None = None
    coded: bool = False

    def __post_init__(self) -> None:
        for name in ("published", "published_member", "published_importance"):
            value = getattr(self, name)
            least, most = {"model", "variant"}, {"model", "variant", "split"}
            fits = value is None or least <= set(value) <= most
            require(fits, f"evaluation.{name}", "{model, variant, split} or null", value)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClusterConfig:
    """Where training and scoring run; never a DVC parameter.

    Attributes:
        num_workers: DDP workers of Ray Train; 0 trains in the stage's own process, which starts at
            once, or on one worker where RAY_ADDRESS names a cluster. An evaluation scores on so
            many workers, and with 0 in the stage's own process.
        min_workers: with fewer than num_workers at hand (a lost node) training goes on with as
            few as this many; null waits for all. The numbers then depend on what was at hand.
        use_gpu: one GPU a worker (NCCL), else CPUs (gloo).
        cpus_per_worker: CPUs that a worker reserves and uses as threads; null is the most with
            which the nodes hold all workers (of one training; each trial of a search takes 1), and
            without workers is OMP_NUM_THREADS, or the CPUs that the process may use.
        max_failures: restarts from the last checkpoint after a worker is lost; of an evaluation,
            workers that may be lost.
        max_concurrent_trials: trials of a search at the same time; null is what fits.
        checkpoint_minutes: longest time between checkpoints, within an epoch if need be.
        storage: folder or URI that every node reaches, for shards, checkpoints and trials; null is
            ARCORE_STORAGE, or `.arcore/` where that is not set.
    """

    num_workers: Natural = 0
    min_workers: Count | None = None
    use_gpu: bool = False
    cpus_per_worker: Count | None = None
    max_failures: Natural = 3
    max_concurrent_trials: Count | None = None
    checkpoint_minutes: Annotated[float, Field(gt=0)] = 10.0
    storage: str | None = None

    def __post_init__(self) -> None:
        fits = self.min_workers is None or self.min_workers <= self.num_workers
        require(fits, "cluster.min_workers", "1 to num_workers, or null", self.min_workers)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExperimentConfig:
    """One experiment: which dataset, which model, how it is trained and evaluated.

    Attributes:
        name: of the model's folder: an entry of params.yaml, or what overrides made of one.
        evaluated_as: the name of its result where overrides change the evaluation; null is `name`.
        base: the file that it started from, whose content is in model and trainer.
        mixture: the experiments that it mixes; none is trained by itself.
        pooled: whether it multiplies their conditionals, instead of adding up their densities.
        dataset, model, trainer, evaluation, cluster: what was composed.
    """

    name: str
    evaluated_as: str | None = None
    base: str | None = None
    mixture: tuple[str, ...] = ()
    pooled: bool = False
    dataset: dict[str, Any]
    model: dict[str, Any]
    trainer: TrainerConfig
    evaluation: EvaluationConfig
    cluster: ClusterConfig

    @property
    def result_name(self) -> str:
        """Name of its result: of `evaluation/<dataset>/<name>` and `metrics/<name>.json`."""
        return self.evaluated_as or self.name

    def to_dict(self) -> dict[str, object]:
        """Return what decides the result, as plain types: all but the cluster and the base."""
        decisive = dataclasses.asdict(self)
        del decisive["cluster"], decisive["base"], decisive["evaluated_as"]
        if not self.mixture:
            del decisive["mixture"]
        if not self.pooled:
            del decisive["pooled"]
        for name, default in ADDED.items():  # as in records of before there were such
            if decisive["trainer"][name] in (default, ""):
                del decisive["trainer"][name]
        plain: dict[str, object] = json.loads(json.dumps(decisive))
        return plain

    def config_hash(self, dataset_sha256: str, initial_sha256: str | None = None) -> str:
        """Return a hash of what decides the trained weights: name, data, model and trainer."""
        decisive = {key: value for key, value in self.to_dict().items() if key != "evaluation"}
        decisive["dataset"] = {k: v for k, v in self.dataset.items() if k not in NOT_HASHED}
        decisive["dataset_sha256"] = dataset_sha256
        if initial_sha256 is not None:
            decisive["initial_weights_sha256"] = initial_sha256
        return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()


def member_defaults(model: Mapping[str, Any]) -> dict[str, dict[str, int]]:
    """Return the defaults of `trainer.validate_members` and `evaluation.num_members`.

    A model trained for several masks is validated and scored as the mixture of all of them. One
    for several orderings is scored so, and validated by the estimate of one, which is faster.

    Example:
        >>> member_defaults({"name": "made", "num_masks": 8})
        {'trainer': {'validate_members': 8}, 'evaluation': {'num_members': 8}}
        >>> member_defaults({"name": "deep_nade", "num_orderings": 16})
        {'trainer': {'validate_members': 1}, 'evaluation': {'num_members': 16}}
    """
    masks, orderings = (_count(model.get(name)) for name in ("num_masks", "num_orderings"))
    members = {"num_members": max(masks, orderings)}
    return {"trainer": {"validate_members": masks}, "evaluation": members}


def _count(given: object) -> int:
    """Return a number of masks or orderings; 1 for none, and for what the model refuses."""
    return given if isinstance(given, int) and given > 1 else 1


def build(kind: type[T], given: object, where: str) -> T:
    """Build a frozen dataclass from plain data, checking names, types and ranges."""
    require(isinstance(given, Mapping), where, "a mapping", given)
    _require_fields(kind, cast("Mapping[str, object]", given), where)
    return validated(kind, given, where, is_path=True)


def _require_fields(kind: Any, given: Mapping[str, object], where: str) -> None:
    hints, known = typing.get_type_hints(kind), [f.name for f in dataclasses.fields(kind)]
    for key, value in given.items():
        if key not in known:
            raise unknown_name(f"parameter of {where}", key, known)
        if dataclasses.is_dataclass(hints[key]) and isinstance(value, Mapping):
            _require_fields(hints[key], value, f"{where}.{key}")
