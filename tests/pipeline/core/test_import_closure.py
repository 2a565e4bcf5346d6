"""The code that a stage depends on: hashes, closures of imports, the keys that dvc.yaml names."""

from pathlib import Path

import pytest
import yaml

import arcore
from pipeline.core import stage_code
from pipeline.core.errors import UserError
from pipeline.core.import_closure import Checkout, code_hash
from pipeline.core.records import flat
from pipeline.core.stage_code import StageCode
from pipeline.datasets import catalog
from tests.places import ROOT
from tests.support.sources import copy_code

PUBLISHED = "pipeline/reporting/published_results.yaml"
SOURCE = '''"""Module."""

import os


class A:
    """A class."""

    size = {"a": 1, "b": 2}

    def f(self, x):
        """Return more."""
        # why
        if x:
            return f"{x!r:>{self.size['a']}}" "tail"
        return self.f(x + 1)
'''


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ('"""Module."""\n', "", True),
        ('"""Module."""\n', "'Module' 'of two'\n", True),
        ('"""A class."""', '"""Étude.\n\n    In two lines.\n    """', True),
        ('    """A class."""\n', "", True),
        ('        """Return more."""\n', "", True),
        ("        # why\n", "\n\n", True),
        ('{"a": 1, "b": 2}', '{\n        "a": 1,  # one\n        "b": 2\n    }', True),
        ("    def f", '    """Of size."""\n\n    def f', True),
        ("            return f", "                return f", True),
        ("x + 1", "x+1", True),
        ("x + 1", "x + 2", False),
        ("import os", "import sys", False),
        ('"tail"', '"other tail"', False),
        ("!r:>", "!s:>", False),
        ("        return self", "            return self", False),
        ("        # why", "        f'{self.g()}'", False),
        ("        # why", "        'text'.upper()", False),
        ("class A:", "class A(B):", False),
    ],
)
def test_what_changes_the_code_alone_changes_the_hash(old: str, new: str, same: bool) -> None:
    assert old in SOURCE
    assert (code_hash(SOURCE.replace(old, new)) == code_hash(SOURCE)) == same


def test_the_hash_is_the_same_under_every_version_of_python() -> None:
    source = 'def f(x):\n    """Doc."""\n    return f"{x}", rb"y"\n'
    assert code_hash(source) == "bd1af7908840b5db"


@pytest.fixture
def checkout(tmp_path):
    """A function from the text of files to the checkout that has them."""

    def make(**files: str) -> Checkout:
        for name, text in files.items():
            path = tmp_path / (name.replace("__of__", "/") + ".py")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        for folder in {path.parent for path in tmp_path.rglob("*.py")} - {tmp_path}:
            (folder / "__init__.py").touch()
        (tmp_path / "pipeline/data").mkdir(parents=True, exist_ok=True)
        (tmp_path / "pipeline/data/split.json").write_text("{}")
        return Checkout(tmp_path, ("arcore", "pipeline", "stages"))

    return make


@pytest.mark.parametrize(
    "text",
    [
        "import os, pipeline.data.b",
        "import pipeline.data.b as x",
        "from pipeline.data import b",
        "from pipeline.data.b import name",
        "from pipeline import data",
        "def f():\n    from pipeline.data.b import name",
        "try:\n    import json.d, q.d\nexcept ImportError:\n    import pipeline.data.c",
    ],
)
def test_an_import_takes_the_folder_with_what_that_imports(checkout, text: str) -> None:
    """Wherever it stands; its data files too, and what is beside a folder alone."""
    tree = checkout(
        stages__of__a=text,
        stages__of__b="x = 1",
        pipeline__of__data__of__b="import pipeline.core.d",
        pipeline__of__data__of__c="import arcore.events",
        pipeline__of__core__of__d="import stages.a",
        arcore__of__events="x = 2",
        arcore__of__model="x = 3",
    )
    folders = ["pipeline/core/d.py", "pipeline/data/b.py", "pipeline/data/c.py"]
    found = ["arcore/events.py", *folders, "pipeline/data/split.json", "stages/a.py"]
    assert list(tree.hashes("stages.a")) == found


def test_what_is_asked_for_by_name_is_followed_from_its_siblings_alone(checkout) -> None:
    tree = checkout(
        stages__of__a="from arcore.models import one\nimport pipeline.datasets.base",
        arcore__of__models__of__one="from arcore.models.two import Two",
        arcore__of__models__of__two="x = 2",
        pipeline__of__datasets__of__base="import pipeline.datasets.tables.uci",
        pipeline__of__datasets__of__other="x = 3",
        pipeline__of__datasets__of__tables__of__uci="x = 4",
        pipeline__of__datasets__of__tables__of__csv="x = 5",
        pipeline__of__data__of__b="import pipeline.datasets.tables.uci\nimport arcore.models.two",
    )
    tables = [f"pipeline/datasets/{name}.py" for name in ("base", "tables/csv", "tables/uci")]
    models = ["arcore/models/one.py", "arcore/models/two.py"]
    assert list(tree.hashes("stages.a")) == [*tables, "stages/a.py"]
    assert list(tree.hashes("stages.a", "arcore.models.one")) == [*models, *tables, "stages/a.py"]
    assert list(tree.hashes("pipeline.data.b")) == [
        "pipeline/data/b.py",
        "pipeline/data/split.json",
    ]


def test_what_cannot_be_told_is_refused(checkout) -> None:
    tree = checkout(stages__of__a="from . import b")
    with pytest.raises(UserError, match=r"stages/a\.py:1: expected an absolute import"):
        tree.hashes("stages.a")
    with pytest.raises(UserError, match=r"stages\.c: expected a module"):
        tree.hashes("stages.c")


@pytest.fixture(scope="module")
def code() -> StageCode:
    return StageCode(ROOT)


def test_a_stage_of_one_model_has_no_other(code) -> None:
    models = {f"arcore/models/{name}.py" for name in arcore.list_models()}
    for stage in stage_code.STAGES_OF_A_MODEL:
        assert code.hashes(f"{stage}.nade").keys() & models == {"arcore/models/nade.py"}
        assert models <= code.hashes(f"{stage}.mixture").keys()
    base = {"arcore/models/parallel_multiscale.py", "arcore/models/gated_pixelcnn.py"}
    assert base <= code.hashes("train.parallel_multiscale").keys()
    for key in stage_code.STAGES_OF_ALL:
        assert models <= code.hashes(key).keys()
    for key in stage_code.STAGES_OF_DATA:
        assert not models & code.hashes(key).keys()


def test_stages_have_what_their_results_are_made_of(code) -> None:
    for key in ("fetch", "preprocess", "codecs", "report", "register", "train.made", "tune.made"):
        assert f"stages/{key.partition('.')[0]}.py" in code.hashes(key)
    training = {"experiments/compose.py", "training/worker.py", "data/loading.py"}
    assert {f"pipeline/{name}" for name in training} <= code.hashes("folds.rnade").keys()
    assert "pipeline/datasets/embedded/digits_split.json" in code.hashes("dataset.digits")
    assert PUBLISHED in code.hashes("report") and PUBLISHED not in code.hashes("register")
    everything = {path.relative_to(ROOT).as_posix() for path in (ROOT / "arcore").rglob("*.py")}
    left_out = {Path(file) for file in everything - code.hashes("register").keys()}
    own = {"__init__.py", "sklearn.py"}  # the latter trains models of its own
    assert {path.name for path in left_out} == own, "arcore travels with a model"


def test_a_training_covers_no_dataset_and_nothing_above_it(code) -> None:
    """It reads shards; the module of its dataset decides those."""
    files = code.hashes("train.nade")
    own = set[str]()
    for name in catalog.list_datasets():
        builder = stage_code.builder_of(name, ROOT / stage_code.CONF)
        own |= {f"{str(builder).partition(':')[0].replace('.', '/')}.py"} if builder else set()
    assert len(own) > 5 and not own & files.keys()
    above = ("search", "evaluation", "uses", "registry", "reporting")
    assert not [file for file in files if file.startswith(tuple(f"pipeline/{x}/" for x in above))]


def test_the_table_has_every_key(code) -> None:
    values = stage_code.flat(code.table())
    assert list(values) == code.keys()
    assert code.models() == arcore.list_models()
    assert all(str(value).isalpha() for value in values.values()), "no number to any YAML reader"
    assert {f"dataset.{name}" for name in catalog.list_datasets()} <= values.keys()
    assert len({values[f"train.{name}"] for name in code.models()}) == len(code.models())
    with pytest.raises(UserError, match="unknown key 'train.nad'; did you mean 'train.nade'"):
        code.hashes("train.nad")


def test_dvc_yaml_names_a_key_for_every_stage(code) -> None:
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    assert {"code"} == {name for name in stages if not _asked(stages[name])}
    for name, stage in stages.items():
        kind = f"{name}.${{item.model}}" if name in stage_code.STAGES_OF_A_MODEL else name
        rest = set(_asked(stage)) - {kind}
        assert kind in _asked(stage) or name == "code"
        datasets = {"dataset.${item}", "dataset.${item.dataset}"}
        assert rest <= {"entries.${item}", "evaluate.mixture", *datasets}
    every = stage_code.STAGES_OF_DATA + stage_code.STAGES_OF_ALL + stage_code.STAGES_OF_A_MODEL
    assert set(stages) == {*every, "code"}


def _asked(stage: dict) -> list[str]:
    params = stage.get("do", stage).get("params", [])
    return [key for one in params if isinstance(one, dict) for key in one.get("code.yaml", ())]


def test_the_file_is_written_where_a_value_changes(tmp_path) -> None:
    copy_code(tmp_path)
    assert "train.nade" in stage_code.write(tmp_path)
    path = tmp_path / "code.yaml"
    before = path.stat().st_mtime_ns
    (tmp_path / "arcore/model.py").write_text("# new\n" + (ROOT / "arcore/model.py").read_text())
    assert stage_code.write(tmp_path) == [] and path.stat().st_mtime_ns == before
    with (tmp_path / "pipeline/datasets/embedded/digits_split.json").open("a") as split:
        split.write("\n")
    changed = stage_code.write(tmp_path)
    assert "dataset.digits" in changed and "train.nade" not in changed
    compose = tmp_path / "pipeline/experiments/compose.py"
    compose.write_text(compose.read_text() + "import math\n")
    changed = stage_code.write(tmp_path)
    assert "train.nade" in changed and "fetch" not in changed


def test_a_report_depends_on_which_entries_its_dataset_has(tmp_path: Path) -> None:
    params = tmp_path / "params.yaml"
    entries = "experiments: {b-made: {dataset: b}, a-made: {dataset: a}, x: {dataset: gone}}\n"
    mixture = "mixtures: {b-all: {dataset: b, mixture: [x]}}"
    params.write_text(f"datasets: [a, b, c]\n{entries}{mixture}")
    found = {"a": ["a-made"], "b": ["b-all (mixtures)", "b-made"], "c": []}
    assert stage_code.entries(tmp_path) == found
    (tmp_path / "local").mkdir()
    (tmp_path / "local" / "params.yaml").write_text("experiments: {c-made: {dataset: c}}")
    assert stage_code.entries(tmp_path) == found | {"c": ["c-made"]}


def test_the_users_datasets_are_in_a_file_of_their_own(tmp_path: Path) -> None:
    copy_code(tmp_path)
    stage_code.write(tmp_path)
    before = (tmp_path / "code.yaml").read_text()
    (tmp_path / "local/dataset").mkdir(parents=True)
    (tmp_path / "local/dataset/mine.yaml").write_text("kind: text")
    (tmp_path / "local/params.yaml").write_text("datasets: [mine]")
    assert "dataset.mine" in stage_code.write(tmp_path, local=True)
    own = flat(yaml.safe_load((tmp_path / "local/code.yaml").read_text()))
    assert stage_code.write(tmp_path) == [] and (tmp_path / "code.yaml").read_text() == before
    shared = flat(yaml.safe_load(before))
    assert own.keys() - shared.keys() == {"dataset.mine", "entries.mine"}
    assert own["train.nade"] == shared["train.nade"]
