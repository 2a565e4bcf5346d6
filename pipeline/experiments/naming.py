"""Names of what is no entry of params.yaml: experiments changed by hand, outcomes over folds."""

import hashlib
import re
from collections.abc import Sequence

SEPARATOR = "--"
LONGEST = 60  # characters of settings in a name
OVER_FOLDS, FOLD = "-folds", "fold-"


def variant(experiment: str, overrides: Sequence[str]) -> str:
    """Name what overrides make of an experiment: its name, `--`, and the settings.

    Settings that do not fit a file name, or are long, are shortened and end in a hash of all.

    Example:
        >>> variant("digits-made", ["trainer.seed=1", "trainer.max_epochs=3"])
        'digits-made--trainer.max_epochs-3-trainer.seed-1'
        >>> variant("digits-made", ["model.hidden=[500, 500]"])
        'digits-made--model.hidden-500-500-31503cb4'
    """
    settings = dict(override.split("=", 1) for override in overrides)
    lossless = "-".join(f"{key}-{value}" for key, value in sorted(settings.items()))
    slug = re.sub(r"[^A-Za-z0-9._]+", "-", lossless).strip("-.")[:LONGEST].strip("-.")
    if slug != lossless:
        given = "\0".join(f"{key}={value}" for key, value in sorted(settings.items()))
        slug = f"{slug}-{hashlib.sha256(given.encode()).hexdigest()[:8]}"
    return f"{experiment}{SEPARATOR}{slug}"


def is_variant(name: str) -> bool:
    """Return whether a name is one of `variant`, and no entry of params.yaml."""
    return SEPARATOR in name


def over_folds(experiment: str) -> str:
    """Name the outcome of an experiment over folds."""
    return experiment + OVER_FOLDS


def experiment_of(name: str) -> str:
    """Return the experiment whose record, or outcome over folds, has a name."""
    return name.removesuffix(OVER_FOLDS)


def of_fold(fold: int) -> str:
    """Name the folder that keeps a fold's model."""
    return f"{FOLD}{fold}"
