"""What a result belongs to: an entry of params.yaml as it stands, and the code that evaluates."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.core import paths
from pipeline.core.errors import UserError
from pipeline.evaluation.result_records import Result
from pipeline.experiments import naming, params_file
from pipeline.experiments.schema import ExperimentConfig


@dataclass(frozen=True)
class Entries:
    """Experiments, mixtures and folds of params.yaml, read once; none without such a file."""

    known: Mapping[str, object]
    has_file: bool = True

    @classmethod
    def read(cls) -> Entries:
        """Read params.yaml of the working directory."""
        if not Path("params.yaml").is_file():
            return cls({}, has_file=False)
        params = params_file.read_params()
        folds = {naming.over_folds(name): one for name, one in (params.get("folds") or {}).items()}
        return cls({**params["experiments"], **(params.get("mixtures") or {}), **folds})

    def sha256(self, name: str) -> str | None:
        """Hash an entry with its base, or its members; None for a name that is no entry."""
        entry = self.known.get(name)
        if not isinstance(entry, dict):
            return None
        if isinstance(entry.get("mixture"), list):
            members = [self.sha256(str(member)) for member in entry["mixture"]]
            return hashlib.sha256(json.dumps([entry, members], sort_keys=True).encode()).hexdigest()
        base = entry.get("base")
        content = b""
        if isinstance(base, str):
            path = paths.root() / base
            path = path if path.is_file() else Path(base)
            content = path.read_bytes() if path.is_file() else b""
        described = json.dumps(entry, sort_keys=True, default=str).encode()
        return hashlib.sha256(described + b"\0" + content).hexdigest()

    def has(self, name: str, dataset: str) -> bool:
        """Whether there is an entry of a name on a dataset; without params.yaml there may be."""
        entry = self.known.get(name)
        return entry.get("dataset") == dataset if isinstance(entry, dict) else not self.has_file

    def check(self, result: Result) -> None:
        """Refuse a result of another configuration than the entry of its name now has."""
        name = naming.experiment_of(result.experiment)
        if self.sha256(name) in (None, result.entry_sha256) or result.config_sha256 is None:
            return
        from pipeline.experiments import compose  # here: mostly the entry is as it was

        if config_sha256(compose.load(name)) != result.config_sha256:
            made = f"`python -m stages.{params_file.stages_of(name)[0]} {name}` and "
            made += f"`python -m stages.evaluate {name}`"
            if result.num_folds > 1:
                made = f"`python -m stages.folds {name}`"
            raise UserError(
                f"evaluation/{result.dataset}/{result.experiment}: expected a result of the "
                f"experiment as params.yaml has it, got one of another configuration; run {made}"
            )


def config_sha256(config: ExperimentConfig) -> str:
    """Hash all that an entry means, which another way to write it leaves as it is.

    Of a mixture that is how its members are trained, too.
    """
    meant = config.to_dict()
    if config.mixture:
        from pipeline.experiments import compose

        meant["trained"] = [compose.load(name).config_hash("") for name in config.mixture]
    return hashlib.sha256(json.dumps(meant, sort_keys=True).encode()).hexdigest()


def entry_sha256(name: str) -> str | None:
    """Hash the entry of params.yaml that an experiment, or what overrides made of it, began as."""
    return Entries.read().sha256(name.partition(naming.SEPARATOR)[0])
