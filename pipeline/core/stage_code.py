"""What code decides a stage's outputs: one hash for each stage and model, kept in `code.yaml`.

docs/stage-code.md describes the keys, and which files they cover. The module that builds a dataset
is its conf file's `builder`, `package.module:function`, or a module whose `DATASETS` has a function
for the name; of another package, an entry point of the group `arcore.datasets`, likewise.
"""

import contextlib
import functools
import hashlib
import platform
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

import yaml

from pipeline.core import atomic, paths
from pipeline.core.errors import SiteError, UserError, unknown_name
from pipeline.core.import_closure import MODELS, Checkout
from pipeline.core.records import flat, value_of
from pipeline.core.yaml_settings import nested, read_yaml

CODE = Path(__file__).parents[2]  # the folder of arcore, pipeline and stages
PACKAGES = ("arcore", "pipeline", "stages", "reproductions")
USER_DATA = "pipeline.datasets.user"  # modules for datasets of the user's files
CONF = "pipeline/conf/dataset"
USER_CONF = f"{paths.LOCAL}/dataset"
BUILDER = "builder"  # key of a conf file
DATASETS = "arcore.datasets"
FILE = "code.yaml"
STAGES_OF_DATA = ("fetch", "preprocess", "codecs")
STAGES_OF_ALL = ("mix", "report", "register", "study")  # of any models
STAGES_OF_A_MODEL = ("train", "evaluate", "tune", "folds", "join", "use")
DATASET = "dataset"  # whose keys cover the module that builds a dataset
COMBINATIONS = ("mixture", "pool")  # of models, of any name
ANY = "mixture"  # as a model: what is made of any of them
KINDS = ("experiments", "mixtures", "folds")  # of entries that have results
LETTERS = str.maketrans("0123456789", "ghijklmnop")
HEAD = """\
# Hashes of the code that stages depend on, written by `python -m stages.code` (docs/stage-code.md).
"""


class Disagreement(SiteError):
    """A worker's host has other code or shards than its work is of."""


class StageCode:
    """The code of the stages of one checkout."""

    def __init__(self, root: Path = CODE) -> None:
        self._checkout = Checkout(root, PACKAGES)
        self._conf, self._user_conf = root / CONF, root / USER_CONF

    def models(self) -> list[str]:
        """Return the names of the models, sorted."""
        modules = self._checkout.modules
        own = {m.rpartition(".")[2] for m in modules if m.startswith(f"{MODELS}.")}
        return sorted(own | _elsewhere(MODELS).keys())

    def keys(self, local: bool = False) -> list[str]:
        """Return the keys of every stage, model and dataset; the user's datasets where `local`."""
        models = [*self.models(), ANY]
        of_models = (f"{stage}.{model}" for stage in STAGES_OF_A_MODEL for model in models)
        folders = (self._conf, *((self._user_conf,) if local else ()))
        datasets = (f"{DATASET}.{name}" for name in dataset_names(*folders))
        return [*STAGES_OF_DATA, *STAGES_OF_ALL, *of_models, *datasets]

    def hashes(self, key: str) -> dict[str, str]:
        """Return the files that a key covers, each with its hash."""
        kind, _, name = key.partition(".")
        if kind == DATASET:  # of the user's files, where it is not known yet
            return self._checkout.hashes(*self._modules_of_dataset(name))
        if key not in self.keys():
            raise unknown_name("key", key, self.keys())
        ours = f"reproductions.{kind}"
        module = ours if ours in self._checkout.modules else f"stages.{kind}"
        if kind in STAGES_OF_DATA:
            return self._checkout.hashes(module)
        names = self.models() if name in ("", ANY) else [name]
        return self._checkout.hashes(module, *(self._module_of_model(each) for each in names))

    def _module_of_model(self, name: str) -> str:
        brought = _elsewhere(MODELS).get(name, "").partition(":")[0]
        if brought:
            self._checkout.add(brought)
        return brought or f"{MODELS}.{name}"

    def _modules_of_dataset(self, name: str) -> list[str]:
        builder = builder_of(name, self._user_conf, self._conf)
        if builder is None:
            inside = f"{USER_DATA}."
            return [module for module in self._checkout.modules if module.startswith(inside)]
        module = builder.partition(":")[0]
        self._checkout.add(module)
        return [module]

    def sha256(self, key: str) -> str:
        """Return the hash of a key, 64 hexadecimal digits."""
        lines = "".join(f"{digits}  {file}\n" for file, digits in self.hashes(key).items())
        return hashlib.sha256(lines.encode()).hexdigest()

    def table(self, local: bool = False) -> dict[str, object]:
        """Return all hashes as code.yaml nests them."""
        return nested({key: self.short(key) for key in self.keys(local)})

    def short(self, key: str) -> str:
        """Return the hash of a key as code.yaml has it: 16 letters, which are no number in YAML."""
        return self.sha256(key)[:16].translate(LETTERS)


@functools.cache
def _elsewhere(group: str) -> Mapping[str, str]:
    """What other packages bring, by name: builders of datasets, or classes of models."""
    return {point.name: point.value for point in metadata.entry_points(group=group)}


def builder_of(name: str, *folders: Path) -> str | None:
    """Return the builder of a dataset; None for one of the user's files, or an unknown name."""
    path = conf_file(name, *folders)
    named = None
    with contextlib.suppress(UserError):  # of a malformed file, as loading it will say
        named = read_yaml(path).get(BUILDER) if path is not None else None
    return named if isinstance(named, str) else _elsewhere(DATASETS).get(name)


def conf_file(name: str, *folders: Path) -> Path | None:
    """Return the first file of some folders that describes a dataset, None where there is none."""
    files = (folder / f"{name}.yaml" for folder in folders)
    return next((path for path in files if path.is_file()), None)


def dataset_names(*folders: Path) -> list[str]:
    """Return the names of all datasets, sorted: those with a conf file, and of other packages."""
    files = {path.stem for folder in folders for path in folder.glob("*.yaml")}
    return sorted(files | _elsewhere(DATASETS).keys())


def entries(root: Path, local: bool = False) -> dict[str, list[str]]:
    """Return the names of each dataset's entries that have results, of all parameter files.

    Datasets of local/params.yaml are among them only where `local`.
    """
    found: dict[str, list[str]] = {}
    placed: list[tuple[str, str]] = []
    for path in paths.params_files(root):
        given = {key: value for key, value in read_yaml(path).items() if value is not None}
        sections = {"datasets": [], **dict.fromkeys(KINDS, {}), **given}
        if local or path.parent != root / paths.LOCAL:
            found |= {str(name): [] for name in value_of(sections, "datasets", list, str(path))}
        for kind in KINDS:
            suffix = f" ({kind})" if kind != KINDS[0] else ""
            for name, entry in value_of(sections, kind, dict, str(path)).items():
                dataset = entry.get("dataset") if isinstance(entry, dict) else None
                placed.append((str(dataset), f"{name}{suffix}"))
    for dataset, name in placed:
        if dataset in found:
            found[dataset].append(name)
    return {name: sorted(names) for name, names in found.items()}


def write(root: Path, local: bool = False) -> list[str]:
    """Write code.yaml of a checkout, unless it stays the same; return the keys that changed.

    Where `local`, that is local/code.yaml, which covers the user's datasets too: so they change
    nothing that Git keeps.
    """
    path = root / paths.LOCAL / FILE if local else root / FILE
    before = flat(read_yaml(path)) if path.exists() else {}
    content = StageCode(root).table(local) | {"entries": entries(root, local)}
    text = HEAD + yaml.safe_dump(content, sort_keys=False, width=100)
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        atomic.write_text(path, text)
    after = flat(content)
    return sorted(k for k in before.keys() | after.keys() if before.get(k) != after.get(k))


def code_sha256(stage: str, model: str) -> str | None:
    """Return the hash of this process's own code for a stage and a model, as `stage_sha256`."""
    return stage_sha256(f"{stage}.{ANY if model in COMBINATIONS else model}")


@functools.cache
def stage_sha256(*keys: str) -> str | None:
    """Return one hash of this process's own code for some keys.

    None where the source is not at hand.
    """
    try:
        code = StageCode()
        return hashlib.sha256("".join(code.sha256(key) for key in keys).encode()).hexdigest()
    except (OSError, UserError):
        return None


def check_host(wanted: str | None, got: str | None) -> None:
    """Check that this host, a worker's, has the driver's code, where both hashes are known."""
    if None not in (wanted, got) and wanted != got:
        raise Disagreement(
            f"{platform.node()}: expected the code of the driver ({str(wanted)[:12]}), got other "
            f"code ({str(got)[:12]}); check the same commit out on all hosts"
        )
