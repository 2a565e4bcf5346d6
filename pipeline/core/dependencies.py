"""What code decides a stage's outputs, as text files that DVC compares and a reader can diff.

`dvc.yaml` asks for `dependencies/<stage>.txt`, or `dependencies/<stage>-${item.model}.txt` where a
stage makes one model, which is then the only one in the file. Each line is a hash and a file: of
Python, the hash of its code (`pipeline.core.code_hash`); of data, of its content. The stage needs
what `stages/<stage>.py` imports (`pipeline.core.import_closure`): all of it, command line and
logging too, so that nobody has to say what matters.

What puts the results of a dataset together depends on which there are to be, too:
`dependencies/entries-${item}.txt` names the entries of params.yaml on it.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pipeline.core import atomic
from pipeline.core.code_hash import code_hash
from pipeline.core.errors import UserError, one_line
from pipeline.core.import_closure import Checkout
from pipeline.core.records import read_yaml, value_of

PACKAGES = ("arcore", "pipeline", "stages", "reproductions")
MODELS = "arcore.models"
ASKED = re.compile(r"dependencies/(\w+)(-\$\{item\.model\})?\.txt")
ENTRIES = "dependencies/entries-${item}.txt"
KINDS = ("experiments", "mixtures", "folds")  # of entries that have results


def listings(root: Path) -> dict[str, str]:
    """Return the files that `dvc.yaml` asks for, by name, with their text.

    Arguments:
        root: the checkout, which holds dvc.yaml and the packages.

    Raises:
        UserError: if dvc.yaml is missing or no such file, or names a stage without a module; and as
            for `pipeline.core.import_closure.Checkout.closure`.
    """
    checkout = Checkout(root, PACKAGES)
    models = [name.rpartition(".")[2] for name in checkout.modules if name.startswith(f"{MODELS}.")]
    hashed = functools.cache(hash_of)
    texts = {}
    for stage, takes_model in sorted(asked(root / "dvc.yaml")):
        for model in models if takes_model else [None]:
            chosen = {} if model is None else {MODELS: model}
            files = checkout.closure(module_of(stage, checkout), chosen=chosen)
            lines = (f"{hashed(root / file)}  {file}\n" for file in files)
            texts[f"{stage}.txt" if model is None else f"{stage}-{model}.txt"] = "".join(lines)
    if ENTRIES in _deps(root / "dvc.yaml"):
        texts |= entries(root / "params.yaml")
    return texts


def module_of(stage: str, checkout: Checkout) -> str:
    """Return the module that runs a stage: of `stages`, or else of `reproductions`."""
    name = f"reproductions.{stage}"
    return name if name in checkout.modules else f"stages.{stage}"


def entries(path: Path) -> dict[str, str]:
    """Return `entries-<dataset>.txt` of each dataset of a params.yaml: its entries, a line each.

    Raises:
        UserError: if it is missing or not valid.
    """
    given = {key: value for key, value in read_yaml(path).items() if value is not None}
    params: dict[str, Any] = {"datasets": []} | dict.fromkeys(KINDS, {}) | given
    datasets = value_of(params, "datasets", list, str(path))
    found: dict[str, list[str]] = {str(name): [] for name in datasets}
    for kind in KINDS:
        for name, entry in value_of(params, kind, dict, str(path)).items():
            dataset = entry.get("dataset") if isinstance(entry, dict) else None
            if isinstance(dataset, str) and dataset in found:
                found[dataset].append(f"{kind} {name}\n")
    return {f"entries-{name}.txt": "".join(sorted(lines)) for name, lines in found.items()}


def asked(path: Path) -> set[tuple[str, bool]]:
    """Return the stages whose dependencies a dvc.yaml names, and whether for each model.

    Raises:
        UserError: if it is missing or not valid.
    """
    return set(_asked_by(dep for dep in _deps(path) if dep != ENTRIES))


def _deps(path: Path) -> list[Any]:
    try:
        stages = value_of(read_yaml(path), "stages", dict, str(path))
        return [dep for stage in stages.values() for dep in stage.get("do", stage).get("deps", [])]
    except (AttributeError, TypeError) as error:
        raise UserError(f"{path}: not valid: {one_line(error)}") from None


def _asked_by(deps: Iterable[Any]) -> Iterable[tuple[str, bool]]:
    for dep in deps:
        if str(dep).startswith("dependencies/"):
            found = ASKED.fullmatch(str(dep))
            if found is None:
                expected = "dependencies/<stage>.txt or dependencies/<stage>-${item.model}.txt"
                raise UserError(f"dvc.yaml: expected {expected}, got {dep!r}")
            yield found[1], found[2] is not None


def hash_of(path: Path) -> str:
    """Hash a file: of Python its code, of data its content; 16 hexadecimal digits."""
    if path.suffix == ".py":
        return code_hash(path.read_text(encoding="utf-8"))
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def write(root: Path, folder: Path) -> list[str]:
    """Write what `listings` returns into a folder, which holds nothing else afterwards.

    A file whose text stays the same is not touched.

    Returns:
        The names of the files that were written or removed, sorted.
    """
    texts = listings(root)
    folder.mkdir(parents=True, exist_ok=True)
    changed = []
    for path in folder.iterdir():
        if path.name not in texts:
            path.unlink()
            changed.append(path.name)
    for name, text in texts.items():
        path = folder / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            atomic.write_text(path, text)
            changed.append(name)
    return sorted(changed)
