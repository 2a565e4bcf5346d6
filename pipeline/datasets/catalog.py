"""The datasets by name: each is built by the function that `stage_code` finds for it.

A new dataset is one module with a `DATASETS` table and one file in `pipeline/conf/dataset/`, whose
`builder` names the module. Files of the user's own datasets are in `local/dataset/`. Only the
module that builds a dataset is imported.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from pipeline.core import paths, stage_code, yaml_settings
from pipeline.core.errors import UserError, explained, require, unknown_name
from pipeline.core.yaml_settings import read_yaml

if TYPE_CHECKING:  # it needs torch, which the refusal of a name does not
    from pipeline.datasets.base import Dataset

CONF_FOLDER = Path(__file__).parents[1] / "conf" / "dataset"
USER_FOLDER = Path(stage_code.USER_CONF)  # of the working directory, as local/params.yaml is
KINDS = {  # of the user's files, with their modules
    "image_folder": "image_folder",
    "image_shards": "image_shards",
    "clip_folder": "clip_folder",
    "arrays": "arrays",
    "csv": "csv_file",
    "wav_folder": "wav_folder",
    "text": "text_files",
}
_Build = Callable[[Mapping[str, object]], "Dataset"]


def list_datasets() -> list[str]:
    """List the names of the datasets that come with the project."""
    names = stage_code.dataset_names(*_folders())
    return [name for name in names if stage_code.builder_of(name, *_folders()) is not None]


def _folders() -> tuple[Path, Path]:
    return USER_FOLDER, CONF_FOLDER


def conf_file(name: str) -> Path:
    """Return the file that describes a dataset; of an unknown one where the user's would be."""
    return stage_code.conf_file(name, *_folders()) or USER_FOLDER / f"{name}.yaml"


def get_dataset(settings: Mapping[str, object]) -> Dataset:
    """Build a dataset from its configuration.

    Arguments:
        settings: `name` and the dataset's options; options left out have their defaults. A dataset
            of the user's own has a `kind` too (see docs/your-data.md).

    Example:
        >>> get_dataset({"name": "dna", "split": "as_distributed"}).event.shape
        (180,)
    """
    if not isinstance(settings, Mapping) or "name" not in settings:
        raise UserError(f"dataset: expected a mapping with the key name, got {settings!r}")
    name = settings["name"]
    if "kind" in settings:
        kind = settings["kind"]
        if not isinstance(kind, str) or kind not in KINDS:
            raise unknown_name("kind of dataset", str(kind), KINDS)
        check_user_name(name, kind)
        dataset: Dataset = module_of_kind(kind).build(settings)
        return dataset
    builder = stage_code.builder_of(name, *_folders()) if isinstance(name, str) else None
    if builder is None:
        raise unknown_name("dataset", name, list_datasets())
    return _load(str(name), builder)(settings)


def _load(name: str, builder: str) -> _Build:
    with explained(f"dataset {name}: builder {builder!r}:", ImportError, AttributeError, KeyError):
        found = EntryPoint(name, builder, stage_code.DATASETS).load()
        build: _Build = found.DATASETS[name] if isinstance(found, ModuleType) else found
    return build


def check_user_name(name: object, kind: str) -> None:
    """Check the name of a dataset of the user's own."""
    fits = isinstance(name, str) and re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_]*", name)
    if not fits or name in list_datasets():
        raise UserError(
            f"dataset: expected a new name of letters, digits and '_' for one of kind "
            f"{kind}, got {name!r}"
        )


def module_of_kind(kind: str) -> ModuleType:
    """Import the module of a kind of the user's files: it can `build` and `guess`."""
    module = f"{stage_code.USER_DATA}.{KINDS[kind]}"
    found: ModuleType = EntryPoint(kind, module, stage_code.DATASETS).load()
    return found


def load_settings(name: str, overrides: Sequence[str] = ()) -> dict[str, object]:
    """Load a dataset's file, see `conf_file`, overlaid with `option=value` strings."""
    known = stage_code.dataset_names(*_folders())
    if name not in known:
        raise unknown_name("dataset", name, known)
    path = conf_file(name)
    content = read_yaml(path) if path.exists() else {"name": name}  # of another package
    settings = content | parse_overrides(name, overrides)
    where = f"{paths.shortened(path.absolute())}: name"
    require(settings.get("name") == name, where, repr(name), settings.get("name"))
    return {key: value for key, value in settings.items() if key != stage_code.BUILDER}


def parse_overrides(name: str, overrides: Sequence[str]) -> dict[str, object]:
    """Parse `option=value` strings of a dataset.

    Example:
        >>> parse_overrides("flowers", ["height=64", "classes=[rose, tulip]"])
        {'height': 64, 'classes': ['rose', 'tulip']}
    """
    fixed = ("name", "kind", stage_code.BUILDER)
    for override in overrides:
        key, equals, _ = override.partition("=")
        if not equals or not key.isidentifier() or key in fixed:
            raise UserError(
                f"override {override!r}: expected option=value with an option of dataset {name!r}"
            )
    return yaml_settings.parse_overrides(overrides)
