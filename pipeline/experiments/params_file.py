"""Entries of params.yaml, the one file that a user edits, and of the params.yaml of `PARTS`."""

from __future__ import annotations

import difflib
import functools
import io
import re
import shutil
import textwrap
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, ListConfig, OmegaConf

from pipeline.core import paths
from pipeline.core.errors import UserError, one_line, require, unknown_name
from pipeline.experiments import naming

FILE = "params.yaml"
WIDTH = 120  # columns of a list of entries
KINDS = {
    "experiments": "experiment",
    "mixtures": "mixture",
    "searches": "search",
    "folds": "protocol of folds",
    "studies": "study",
}
SECTIONS = ("datasets", *KINDS, "uses", "joins")


def read_params(path: Path | None = None) -> dict[str, Any]:
    """Read params.yaml, of the working directory by default, and those of `paths.PARTS` as one.

    Raises:
        UserError: if it is missing, not valid YAML with a mapping of experiments, has another
            section of a wrong kind, or if two files have the same name.
    """
    path = path or Path(FILE)
    merged = _read(path)
    for more in paths.params_files(path.parent)[1:]:
        part = _read(more)
        for section in SECTIONS:
            merged[section] = _joined(merged.get(section), part.get(section), f"{more}: {section}")
    return merged


def _joined(known: Any, more: Any, where: str) -> Any:
    """Return a section of two files as one."""
    if not known or not more:
        return known or more
    for name in more:
        require(name not in known, where, "names that are in no other file", name)
    return known + more if isinstance(known, list) else known | more


def _read(path: Path) -> dict[str, Any]:
    """Read one file."""
    try:
        read = _parsed(path.read_text(encoding="utf-8"))
        loaded = OmegaConf.to_container(read, resolve=True, throw_on_missing=True)
    except FileNotFoundError:
        raise UserError(f"{path}: expected a file in {Path.cwd()}, found none") from None
    except Exception as error:  # yaml and OmegaConf raise many kinds
        raise UserError(f"{path}: not valid: {one_line(error)}") from None
    if not isinstance(loaded, dict) or not isinstance(loaded.get("experiments"), dict):
        raise UserError(f"{path}: expected a mapping 'experiments', found none")
    sections = _named(loaded, str(path))
    for key in sections:
        _refuse_misspelt(key, str(path))
    datasets = sections.get("datasets")
    require(isinstance(datasets, list | None), f"{path}: datasets", "a list", datasets)
    for section in (*KINDS, "uses"):
        entries = sections.get(section)
        require(isinstance(entries, dict | None), f"{path}: {section}", "a mapping", entries)
        if entries:
            sections[section] = _named(entries, f"{path}: {section}")
    return sections


def _refuse_misspelt(section: str, where: str) -> None:
    """Refuse a name that is nearly a section's; one of another name may hold YAML anchors."""
    near = difflib.get_close_matches(section, SECTIONS, n=1, cutoff=0.8)
    if section not in SECTIONS and near:
        raise UserError(f"{where}: unknown section {section!r}; did you mean {near[0]!r}?")


@functools.lru_cache(maxsize=8)  # a fifth of a second, several times in every stage
def _parsed(text: str) -> DictConfig | ListConfig:
    read = OmegaConf.load(io.StringIO(text))  # which refuses a key twice
    _refuse_references(OmegaConf.to_container(read), "")
    return read


def _refuse_references(value: object, where: str) -> None:
    """Refuse `${...}`: DVC compares the text, and would not see that what it stands for changed."""
    if isinstance(value, str):
        require("${" not in value, where, "a value, or a YAML anchor for one", value)
    elif isinstance(value, Mapping | list):
        for key, one in value.items() if isinstance(value, Mapping) else enumerate(value):
            _refuse_references(one, f"{where}.{key}" if where else str(key))


def _named(known: Mapping[Any, Any], where: str) -> dict[str, Any]:
    """Return entries by text; 1 and '1' are one name."""
    names = [str(key) for key in known]
    for name in names:
        require(names.count(name) == 1, where, "different names", f"{name} twice")
    return dict(zip(names, known.values(), strict=True))


def dvc_target(stage: str, experiment: str) -> str:
    """Return DVC's name of a stage of an experiment, with the file that it is in.

    Example:
        >>> dvc_target("train", "an experiment of no file")
        'train@an experiment of no file'
    """
    for path in paths.params_files(Path())[1:]:
        entries = _read(path)
        if any(experiment in (entries.get(section) or ()) for section in KINDS):
            return f"{path.with_name('dvc.yaml')}:{stage}@{experiment}"
    return f"{stage}@{experiment}"


def stages_of(experiment: str) -> tuple[str, ...]:
    """Return DVC's stages that make an experiment's model and its result, in turn.

    A mixture's is one, which evaluates it too. An experiment that params.yaml does not have is
    taken for one that is trained.
    """
    mixtures = read_params().get("mixtures") if Path("params.yaml").is_file() else None
    return ("mix",) if experiment in (mixtures or {}) else ("train", "evaluate")


def read_entry(section: str, name: str) -> Mapping[str, Any]:
    """Return an entry of params.yaml, whose name must do for a folder.

    Arguments:
        section: one of KINDS.
        name: its key.

    Raises:
        UserError: for an unknown name (with the nearest ones) or an entry that is no mapping.
    """
    kind = KINDS[section]
    known = read_params().get(section) or {}
    if name not in known:
        raise unknown_name(kind, name, known)
    fits = re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name) is not None  # DVC cuts at dots
    require(fits, kind, "a name of letters, digits, '_' and '-'", name)
    taken = name == "uses" or name.endswith(naming.OVER_FOLDS)
    require(not taken, kind, f"a name but 'uses', and none that ends in {naming.OVER_FOLDS}", name)
    require(not naming.is_variant(name), kind, f"a name without {naming.SEPARATOR!r}", name)
    entry = known[name]
    require(isinstance(entry, dict), f"{section}.{name}", "a mapping", entry)
    return cast(Mapping[str, Any], entry)


def listed(section: str) -> str:
    """Return the names of a section of params.yaml, by dataset, at most 120 columns wide.

    Arguments:
        section: experiments, mixtures, searches, folds or studies.

    Raises:
        UserError: if params.yaml is missing or not valid, or has no such entry.
    """
    entries = read_params().get(section) or {}
    require(isinstance(entries, dict), section, "a mapping", entries)
    if not entries:
        raise UserError(f"params.yaml: expected an entry of {section}, found none")
    width = min(WIDTH, shutil.get_terminal_size((WIDTH, 24)).columns)
    lines = [f"{section} of params.yaml, by dataset:"]
    for dataset, names in _by_dataset(entries).items():
        lines += [f"\n{dataset}", *_columns(names, width)]
    return "\n".join(lines)


def _by_dataset(entries: Mapping[str, Any]) -> Mapping[str, list[str]]:
    found: defaultdict[str, list[str]] = defaultdict(list)
    for name, entry in entries.items():
        dataset = entry.get("dataset") if isinstance(entry, dict) else None
        found[str(dataset)].append(str(name))
    return found


def _columns(names: list[str], width: int) -> list[str]:
    return textwrap.wrap(
        "  ".join(names),
        width,
        initial_indent="  ",
        subsequent_indent="  ",
        break_on_hyphens=False,
        break_long_words=False,
    )
