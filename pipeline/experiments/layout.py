"""The layout of params.yaml: the form in which DVC writes it, with every key that DVC asks for.

`dvc exp run -S a.b=c` changes keys that are there, `-S +a.b=c` adds one, and both write the file
again with ruamel.yaml. In this layout that changes the lines of the new value alone.

What dvc.yaml takes for each entry beside params.yaml is in foreach.yaml, next to it: the `base` of
an entry that names none (or the weights that it starts from, which are a dependency too), and a row
for each member of each mixture, since a `foreach` of dvc.yaml cannot give a stage as many
dependencies as a list is long.

The folder local/ has a dvc.yaml too, of the stages of the project's. Its own stage `code` writes
local/code.yaml, so that the user's data change nothing that the project's stages depend on.
Its foreach.yaml names the file that describes an entry's dataset (`conf`), one in local/dataset/ or
one of the project's. `reproductions.reproduce` writes and removes the dvc.yaml of reproductions/.
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

from pipeline.core import atomic, paths, stage_code
from pipeline.core.errors import UserError, explained, require
from pipeline.core.records import content_of
from pipeline.core.yaml_settings import parse_yaml

FILE = "params.yaml"
FOREACH = "foreach.yaml"
BASE = "pipeline/conf/base.yaml"
EXPERIMENT: dict[str, object] = {"model_overrides": {}, "trainer": {}, "evaluation": {}}
ORDER = ("dataset", "model", "base", *EXPERIMENT)
WITH_BASE = ("experiments", "searches", "folds")
WITH_CONF = (*WITH_BASE, "mixtures", "studies")
DESCRIBED = "described"  # in local/foreach.yaml: the datasets with their `conf`
EMPTY = "datasets: []\nexperiments: {}\n"
MADE = "# Written by `python -m stages.params`; not by hand.\n"
LARGEST = 1 << 22  # bytes of a params.yaml
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


def foreach_of(text: str, local: bool = False) -> str:
    """Return the foreach.yaml of a params.yaml, where `local` with the `conf` of entries."""
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
    if local:
        for section in WITH_CONF:
            added = content.setdefault(section, {})
            for name, entry in (params.get(section) or {}).items():
                known = added.get(name, {})
                added[name] = {**known, **_conf(entry["dataset"])}  # type: ignore[dict-item]
        content[DESCRIBED] = {str(name): _conf(name) for name in params.get("datasets") or []}
    return MADE + yaml.safe_dump(content, sort_keys=False, default_flow_style=None, width=200)


def _conf(dataset: object) -> dict[str, str]:
    """Return the file that describes a dataset, for DVC."""
    folders = (Path(stage_code.USER_CONF), Path(stage_code.CONF))
    own = Path(stage_code.USER_CONF) / f"{dataset}.yaml"
    return {"conf": str(stage_code.conf_file(str(dataset), *folders) or own)}


def _initial(entry: Mapping[str, Any]) -> object:
    """Return the weights that an entry's training starts from, for DVC to know."""
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
    """Complete a params.yaml and write its foreach.yaml; for the user's own, its dvc.yaml too.

    Returns whether params.yaml changed.
    """
    content = content_of(path, "YAML")
    require(len(content) <= LARGEST, str(path), f"at most {LARGEST:,} bytes", f"{len(content):,}")
    parse_yaml(content, str(path))  # ruamel.yaml, which takes long, has no bounds
    before = content.decode("utf-8")
    after, local = completed(before), path.parent.name == paths.LOCAL
    made = {path: after, path.with_name(FOREACH): foreach_of(after, local)}
    if local:
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
    local = folder == paths.LOCAL
    own_files = {FILE, FOREACH, *([stage_code.FILE] if local else [])}
    stages: dict[str, Any] = {
        name: {"foreach": stage["foreach"], "do": {"wdir": "..", **stage["do"]}}
        for name, stage in whole["stages"].items()
        if "foreach" in stage
    }
    for stage in stages.values():
        do = stage["do"]
        own = [one for one in do["params"] if isinstance(one, str)]
        files = [{FILE: own}] if own else []
        files += [one for one in do["params"] if not isinstance(one, str)]
        do["params"] = [
            {f"{folder}/{name}" if name in own_files else name: keys}
            for one in files
            for name, keys in one.items()
        ]
    if local:
        stages = {name: _with_conf(stage) for name, stage in stages.items()}
        stages = {"code": _local_code(whole["stages"]["code"]), **stages}
    content = {"vars": whole["vars"], "stages": stages}
    return MADE + yaml.safe_dump(content, sort_keys=False, width=100)


def _with_conf(stage: Mapping[str, Any]) -> dict[str, Any]:
    """Let a stage depend on the file that describes its dataset, wherever that is."""
    written, foreach = json.dumps(stage["do"]), stage["foreach"]
    if foreach == "${datasets}":
        foreach = f"${{{DESCRIBED}}}"
        written = written.replace("${item}", "${key}")
    for item in ("key", "item.dataset"):
        written = written.replace(f"{stage_code.CONF}/${{{item}}}.yaml", "${item.conf}")
    return {"foreach": foreach, "do": json.loads(written)}


def _local_code(stage: Mapping[str, Any]) -> dict[str, Any]:
    """Return the stage `code` of local/."""
    local, file = paths.LOCAL, f"{paths.LOCAL}/{stage_code.FILE}"
    deps = [*stage["deps"], f"{local}/{FILE}"]
    if Path(stage_code.USER_CONF).is_dir():
        deps.append(stage_code.USER_CONF)
    outs = [{file: settings} for out in stage["outs"] for settings in out.values()]
    return {"wdir": "..", "cmd": f"{stage['cmd']} --local", "deps": deps, "outs": outs}


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
