"""Entries of params.yaml, the one file that a user edits, and of the params.yaml of `PARTS`."""

import argparse
import copy
import functools
import re
import sys
import textwrap
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from pipeline.core import paths
from pipeline.core.errors import UserError, require, unknown_name
from pipeline.core.records import as_object, require_known
from pipeline.core.yaml_settings import parse_yaml
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
SECTIONS = ("datasets", *KINDS, "uses")


def read_params(path: Path | None = None) -> dict[str, Any]:
    """Read params.yaml, of the working directory by default, and `paths.PARTS`' files as one."""
    path = path or Path(FILE)
    merged = _read(path)
    for more in paths.params_files(path.parent)[1:]:
        part = _read(more)
        for section in SECTIONS:
            merged[section] = _joined(merged.get(section), part.get(section), f"{more}: {section}")
    return merged


def _joined(known: Any, more: Any, where: str) -> Any:
    if not known or not more:
        return known or more
    for name in more:
        require(name not in known, where, "names that are in no other file", name)
    return known + more if isinstance(known, list) else known | more


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise UserError(f"{path}: expected a file in {Path.cwd()}, found none")
    sections: dict[str, Any] = copy.deepcopy(_parsed(path, path.read_bytes()))
    require_known(sections, SECTIONS, str(path))
    datasets = sections.get("datasets")
    require(isinstance(datasets, list | None), f"{path}: datasets", "a list", datasets)
    for section in (*KINDS, "uses"):
        entries = sections.get(section)
        fits = isinstance(entries, dict if section == "experiments" else dict | None)
        require(fits, f"{path}: {section}", "a mapping", entries)
        if entries:
            sections[section] = {str(name): entry for name, entry in entries.items()}
    return sections


@functools.lru_cache(maxsize=8)  # a second, several times in every stage
def _parsed(path: Path, content: bytes) -> dict[str, object]:
    return as_object(parse_yaml(content, str(path)), str(path))


def repro_command(stage: str, experiment: str) -> str:
    """Return the command that brings a stage of an experiment up to date."""
    for path in paths.params_files(Path())[1:]:
        entries = _read(path)
        if any(experiment in (entries.get(section) or ()) for section in KINDS):
            if path.parent.name == paths.REPRODUCTIONS:
                return f"python -m reproductions.reproduce {stage}@{experiment}"
            return f"dvc repro {path.with_name('dvc.yaml')}:{stage}@{experiment}"
    return f"dvc repro {stage}@{experiment}"


def stages_of(experiment: str) -> tuple[str, ...]:
    """Return DVC's stages that make an experiment's model and its result, in turn.

    A mixture's is one, which evaluates it too. An experiment that params.yaml does not have is
    taken for one that is trained.
    """
    mixtures = read_params().get("mixtures") if Path("params.yaml").is_file() else None
    return ("mix",) if experiment in (mixtures or {}) else ("train", "evaluate")


def read_entry(section: str, name: str) -> Mapping[str, Any]:
    """Return an entry of params.yaml, whose name must do for a folder."""
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
    """Return the names of a section of params.yaml, by dataset, at most 120 columns wide."""
    entries = read_params().get(section) or {}
    require(isinstance(entries, dict), section, "a mapping", entries)
    if not entries:
        raise UserError(f"params.yaml: expected an entry of {section}, found none")
    lines = [f"{section} of params.yaml, by dataset:"]
    found: defaultdict[str, list[str]] = defaultdict(list)
    for name, entry in entries.items():
        found[str(entry.get("dataset") if isinstance(entry, dict) else None)].append(str(name))
    for dataset, names in found.items():
        lines += [f"\n{dataset}", *textwrap.wrap("  ".join(names), WIDTH, break_on_hyphens=False)]
    return "\n".join(lines)


def parse_entry(
    stage: str, section: str, description: str | None, example: str = "", fresh: bool = False
) -> argparse.Namespace:
    """Parse a stage's command line: `entry`, `overrides`, `fresh`; list entries without one."""
    parser = argparse.ArgumentParser(prog=f"python -m {stage}", description=description)
    parser.add_argument(
        "entry", nargs="?", help=f"a key of `{section}` in params.yaml; none lists them"
    )
    if example:
        parser.add_argument("overrides", nargs="*", metavar="key=value", help=f"e.g. {example}")
    if fresh:
        parser.add_argument("--fresh", action="store_true", help="forget unfinished work")
    arguments = parser.parse_intermixed_args()
    if arguments.entry is None:
        print(listed(section.partition(" ")[0]))
        sys.exit()
    return arguments
