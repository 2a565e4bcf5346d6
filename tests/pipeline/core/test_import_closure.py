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
    """A function from the text of files, of a package `p`, to its checkout."""

    def make(**files: str) -> Checkout:
        for name, text in {"__init__": "", **files}.items():
            path = tmp_path / "p" / (name.replace("__of__", "/") + ".py")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return Checkout(tmp_path, ("p",))

    return make


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("import os, p.b", {"b"}),
        ("import p.b as x", {"b"}),
        ("from p import b", {"b"}),
        ("from p.b import name", {"b", "c"}),
        ("def f():\n    from p.b import name", {"b", "c"}),
        ("try:\n    import p.c\nexcept ImportError:\n    import p.d", {"c", "d"}),
        ("if TYPE_CHECKING:\n    import p.d\nelse:\n    import p.c", {"c"}),
        ("if typing.TYPE_CHECKING:\n    import p.d", set()),
        ("if not TYPE_CHECKING:\n    import p.d", {"d"}),
        ("Path(__file__).with_name('d.py')", {"d"}),
        ("import json.d, q.d", set()),
    ],
)
def test_imports_are_found_wherever_they_stand(checkout, text: str, found: set[str]) -> None:
    tree = checkout(a=text, b="import p.c as c" if "name" in text else "", c="", d="")
    assert set(tree.closure("p.a")) == {f"p/{name}.py" for name in {"__init__", "a"} | found}


def test_a_package_is_followed_where_it_is_asked_for(checkout) -> None:
    """Its `__init__` counts in any case, what that imports for others where it is asked itself."""
    files = {"s__of____init__": "from p.b import name", "s__of__c": "", "b": ""}
    own = ["p/__init__.py", "p/a.py", "p/s/__init__.py"]
    assert checkout(a="from p.s import c", **files).closure("p.a") == [*own, "p/s/c.py"]
    asked = [own[0], "p/a.py", "p/b.py", own[2]]
    assert checkout(a="from p.s import name", **files).closure("p.a") == asked
    assert checkout(a="import p.s\np.s.name", **files).closure("p.a") == asked


def test_a_module_imported_by_name_is_the_chosen_one_or_any(checkout) -> None:
    tree = checkout(
        a='import_module(f"p.s.{name}")',
        s__of____init__="",
        s__of__x="",
        s__of__y="import p.b",
        b="",
    )
    common = ["p/__init__.py", "p/a.py"]
    assert tree.closure("p.a", chosen={"p.s": ["x"]}) == [*common, "p/s/__init__.py", "p/s/x.py"]
    every = ["p/b.py", "p/s/__init__.py", "p/s/x.py", "p/s/y.py"]
    assert tree.closure("p.a") == [*common, *every]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import_module(name)", r"p/a\.py:1: expected import_module.*got import_module\(name\)"),
        ('importlib.import_module(f"{name}.x")', "expected import_module"),
        ("from . import b", r"p/a\.py:1: expected an absolute import"),
    ],
)
def test_an_import_that_cannot_be_told_is_refused(checkout, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        checkout(a=text).closure("p.a")


def test_circles_end_and_unknown_modules_are_refused(checkout) -> None:
    tree = checkout(a="import p.b", b="import p.a")
    assert tree.closure("p.a") == tree.closure("p.b") == ["p/__init__.py", "p/a.py", "p/b.py"]
    with pytest.raises(UserError, match=r"p\.c: expected a module"):
        tree.closure("p.c")


@pytest.fixture(scope="module")
def code() -> StageCode:
    return StageCode(ROOT)


def test_a_stage_of_one_model_has_no_other(code) -> None:
    models = {f"arcore/models/{name}.py" for name in arcore.list_models()}
    assert code.hashes("train.nade").keys() & models == {"arcore/models/nade.py"}
    assert "arcore/layers/convolutions.py" not in code.hashes("train.nade")
    assert "arcore/layers/convolutions.py" in code.hashes("evaluate.pixelcnn")
    base = {"arcore/models/parallel_multiscale.py", "arcore/models/gated_pixelcnn.py"}
    assert base <= code.hashes("train.parallel_multiscale").keys()
    for key in ("report", "register", "evaluate.mixture"):
        assert models <= code.hashes(key).keys()
    assert not models & code.hashes("preprocess").keys()


def test_stages_have_what_their_results_are_made_of(code) -> None:
    for key in ("fetch", "preprocess", "codecs", "report", "register", "train.made", "tune.made"):
        assert f"stages/{key.partition('.')[0]}.py" in code.hashes(key)
    training = {"experiments/compose.py", "training/worker.py", "data/loading.py"}
    assert {f"pipeline/{name}" for name in training} <= code.hashes("folds.rnade").keys()
    assert "pipeline/datasets/embedded/digits_split.json" in code.hashes("dataset.digits")
    published = {key for key in code.keys() if PUBLISHED in code.hashes(key)}
    assert published == {"report"}, "what is published reruns reports alone"
    everything = {path.relative_to(ROOT).as_posix() for path in (ROOT / "arcore").rglob("*.py")}
    left_out = {Path(file) for file in everything - code.hashes("register").keys()}
    assert {path.name for path in left_out} == {"__init__.py"}, "arcore travels with a model"


def test_a_training_covers_no_dataset_and_few_files(code) -> None:
    """It reads shards; the module of its dataset decides those."""
    files = code.hashes("train.nade")
    assert len(files) <= 100, sorted(files)
    builders = {f"dataset.{name}" for name in catalog.list_datasets()}
    modules = set.union(*(set(code.hashes(key)) for key in builders))
    common = set.intersection(*(set(code.hashes(key)) for key in builders))
    read = {"pipeline/datasets/moving_generator.py", "pipeline/datasets/scaling.py"}
    datasets = {file for file in modules - common if file.startswith("pipeline/datasets/")} - read
    assert len(datasets) > 15 and not datasets & files.keys()
    apart = {"mixtures", "pools", "coding", "entropy", "bitstream"}
    assert not {f"arcore/{name}.py" for name in apart} & files.keys()


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
    assert set(stages) == {*stage_code.STAGES, *stage_code.STAGES_OF_A_MODEL, "code"}


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
