"""The layout of params.yaml: the form in which DVC writes it, with every key that DVC asks for.

`dvc exp run -S a.b=c` changes keys that are there, `-S +a.b=c` adds one, and both write the file
again with ruamel.yaml. In this layout that changes the lines of the new value alone.

What dvc.yaml takes for each entry beside params.yaml is in foreach.yaml, next to it: the `base` of
an entry that names none (or the weights that it starts from, which are a dependency too), and a row
for each member of each mixture, since a `foreach` of dvc.yaml cannot give a stage as many
dependencies as a list is long.

A folder with a params.yaml of its own has a dvc.yaml too, of the stages of the project's.
"""

import io
import json
from collections.abc import Mapping
from copy import copy
from pathlib import Path
from typing import Any

import yaml
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import YAMLError

from pipeline.core import atomic
from pipeline.core.errors import UserError, explained, require

FILE = "params.yaml"
FOREACH = "foreach.yaml"
BASE = "pipeline/conf/base.yaml"
EXPERIMENT: dict[str, object] = {"model_overrides": {}, "trainer": {}, "evaluation": {}}
ORDER = ("dataset", "model", "base", *EXPERIMENT)
WITH_BASE = ("experiments", "searches", "folds")
EMPTY = "datasets: []\nexperiments: {}\n"
MADE = "# Written by `python -m stages.params`; not by hand.\n"
WIDTH = 78  # columns of an entry's mapping on one line; ruamel.yaml breaks lines of more than 80


def completed(text: str) -> str:
    """Return params.yaml in the form that DVC writes, with all that it tracks of an experiment.

    Values, their order and comments stay (DVC, which writes lists as new ones, drops those within
    or right after a list).
    """
    params = _parsed(text)
    for entry in (params.get("experiments") or {}).values():
        _fill(entry)
    _lay_out(params, 0)
    return _dumped(params)


def foreach_of(text: str) -> str:
    """Return the foreach.yaml of a params.yaml."""
    params = _parsed(text)
    content: dict[str, dict[str, object]] = {}
    for section in WITH_BASE:
        entries = (params.get(section) or {}).items()
        content[section] = {
            name: {"base": _initial(entry) or BASE}
            for name, entry in entries
            if "base" not in entry
        }
    content["joins"] = _joins(params)
    return MADE + yaml.safe_dump(content, sort_keys=False, default_flow_style=None, width=200)


def _initial(entry: Mapping[str, Any]) -> object:
    """Return the weights that an entry's training starts from, of which DVC has to know."""
    return (entry.get("trainer") or {}).get("initial_weights")


def with_experiment(text: str, dataset: str, name: str, entry: Mapping[str, Any]) -> str:
    """Return a params.yaml with one more experiment, and its dataset; comments stay."""
    params = _yaml().load(text)
    datasets, experiments = params.get("datasets") or [], params.get("experiments") or {}
    params["datasets"] = datasets if dataset in datasets else [*datasets, dataset]
    params["experiments"] = experiments
    experiments[name] = entry
    return completed(_dumped(params))


def complete(path: Path) -> bool:
    """Complete a params.yaml and write its foreach.yaml, in a folder its dvc.yaml too.

    Returns whether params.yaml changed.
    """
    try:
        before = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not valid: {error}") from None
    after = completed(before)
    made = {path: after, path.with_name(FOREACH): foreach_of(after)}
    if path.parent != Path():
        whole = Path("dvc.yaml").read_text(encoding="utf-8")
        made[path.with_name("dvc.yaml")] = pipeline_of(str(path.parent), whole)
    for file, text in made.items():
        if not file.is_file() or file.read_text(encoding="utf-8") != text:
            atomic.write_text(file, text)
    return after != before


def pipeline_of(folder: str, text: str) -> str:
    """Return the dvc.yaml of a folder's params.yaml.

    It has the stages of the project's dvc.yaml that run for each entry: they run in the same place,
    and take their entries from the folder's file.
    """
    whole = yaml.safe_load(text)
    stages = {name: stage["do"] for name, stage in whole["stages"].items() if "foreach" in stage}
    for stage in stages.values():
        if folder == "reproductions":  # hours away: DVC would miss each of them in every table
            stage["outs"] = [*stage["outs"], *stage.pop("metrics", [])]
        own = [one for one in stage["params"] if isinstance(one, str)]
        files = [{FILE: own}] if own else []
        files += [one for one in stage["params"] if not isinstance(one, str)]
        stage["params"] = [
            {f"{folder}/{name}" if name in (FILE, FOREACH) else name: keys}
            for one in files
            for name, keys in one.items()
        ]
    made = {
        name: {"foreach": whole["stages"][name]["foreach"], "do": {"wdir": "..", **stage}}
        for name, stage in stages.items()
    }
    content = {"vars": whole["vars"], "stages": made}
    return MADE + yaml.safe_dump(content, sort_keys=False, width=100)


def _parsed(text: str) -> CommentedMap:
    with explained("params.yaml: not valid:", YAMLError):
        params: CommentedMap = _yaml().load(text)
    require(isinstance(params, CommentedMap), "params.yaml", "a mapping", params)
    for section in (*WITH_BASE, "mixtures"):
        fits = isinstance(params.get(section) or {}, Mapping)
        require(fits, section, "a mapping", params.get(section))
    for section in WITH_BASE:
        for name, entry in (params.get(section) or {}).items():
            require(isinstance(entry, CommentedMap), f"{section}.{name}", "a mapping", entry)
    return params


def _fill(entry: CommentedMap) -> None:
    """Add what an entry lacks in order; never last, where the comments of the next entry hang."""
    for key in (one for one in EXPERIMENT if one not in entry):
        above = [list(entry).index(one) for one in ORDER[: ORDER.index(key)] if one in entry]
        place = min(max(above, default=-1) + 1, max(len(entry) - 1, 0))
        entry.insert(place, key, copy(EXPERIMENT[key]))


def _joins(params: Mapping[str, Any]) -> dict[str, object]:
    """Return what the stage `join` runs for: mixture, experiment, and its dataset and model."""
    rows: dict[str, object] = {}
    experiments = params.get("experiments") or {}
    for name, entry in (params.get("mixtures") or {}).items():
        members = entry.get("mixture") if isinstance(entry, Mapping) else None
        if not isinstance(members, list):
            raise UserError(f"mixtures.{name}.mixture: expected a list, got {members!r}")
        for member in members:
            experiment = experiments.get(member) if isinstance(member, str) else None
            if not isinstance(experiment, Mapping):
                where = f"mixtures.{name}.mixture: {member}"
                raise UserError(f"{where}: expected an experiment, got {experiment!r}")
            key = f"{name}_{member}"
            require(key not in rows, "mixtures", "members whose rows have different names", key)
            row = {"mixture": name, "experiment": member}
            row |= {key: experiment.get(key) for key in ("dataset", "model")}
            if "symmetries" in entry:
                given = entry["symmetries"]
                require(isinstance(given, list), f"mixtures.{name}.symmetries", "a list", given)
                row["symmetries"] = list(given)
            rows[key] = row
    return rows


def _lay_out(node: Any, indent: int) -> None:
    """Put lists, and mappings that are too long for a line, one item a line."""
    items = node.items() if isinstance(node, CommentedMap) else enumerate(node)
    for key, value in list(items):
        if not isinstance(value, CommentedMap | CommentedSeq):
            continue
        flow = value.fa.flow_style()
        room = WIDTH - indent - len(str(key)) - 2
        if flow and isinstance(value, CommentedMap) and _width(value) <= room:
            continue
        if flow:
            value.fa.set_block_style()
        _lay_out(value, indent + 2)


def _width(value: Any) -> int:
    plain = json.loads(json.dumps(value, default=str))
    return len(yaml.safe_dump(plain, default_flow_style=True, width=10_000).strip())


def _dumped(params: CommentedMap) -> str:
    stream = io.StringIO()
    _yaml().dump(params, stream)
    return stream.getvalue()


def _yaml() -> YAML:
    """As `dvc.utils.serialize` has it."""
    dvcs = YAML()
    dvcs.default_flow_style = False
    return dvcs
