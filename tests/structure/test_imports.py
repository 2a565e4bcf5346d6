"""Imports run one way, stages -> pipeline -> arcore, and arcore needs torch alone."""

import ast
import functools
import graphlib
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest

import arcore
from tests.places import ROOT
from tests.support.sources import FILES, PACKAGES, code_of, nodes_of

# A module imports from rows below its own, or within its part.
LAYERS = (
    (
        "reproductions.study",
        "reproductions.results",
        "reproductions.reproduce",
        "reproductions.estimate",
    ),
    ("reproductions.publishing",),
    ("reproductions.studies",),
    ("reproductions.datasets",),
    ("stages",),
    ("pipeline.reporting", "pipeline.registry", "pipeline.repro"),
    ("pipeline.uses",),
    ("pipeline.evaluation",),
    ("pipeline.search",),
    ("pipeline.training",),
    ("pipeline.cluster",),
    ("pipeline.data",),
    ("pipeline.experiments",),
    ("pipeline.stage",),
    ("pipeline.datasets.adding", "pipeline.tracking"),
    ("pipeline.datasets.catalog",),
    ("pipeline.datasets.clips", "pipeline.datasets.user"),
    (
        "pipeline.datasets.embedded",
        "pipeline.datasets.images",
        "pipeline.datasets.sounds",
        "pipeline.datasets.tables",
    ),
    ("pipeline.datasets.formats",),
    ("pipeline.datasets.base",),
    (
        "pipeline.datasets.options",
        "pipeline.datasets.read_transforms",
        "pipeline.datasets.scaling",
    ),
    ("pipeline.datasets.moving_generator", "pipeline.datasets"),
    ("pipeline.artifacts",),
    ("pipeline.core",),
    ("arcore.sklearn",),
    ("arcore.coding", "arcore.inference"),
    ("arcore.saving",),
    ("arcore.hub",),
    ("arcore.entropy", "arcore.portable"),
    ("arcore.bitstream", "arcore.coded_batches"),
    ("arcore.zoo",),
    ("arcore.pools",),
    ("arcore.mixtures",),
    ("arcore.models", "arcore.symmetries"),
    ("arcore.families",),
    ("arcore.ensembles",),
    ("arcore.model",),
    ("arcore.layers", "arcore.generation"),
    ("arcore.conditions",),
    ("arcore.decoding",),
    ("arcore.hyperparameters", "arcore.distributions", "arcore.units", "arcore.process_tuning"),
    ("arcore.events", "arcore.derived_buffers"),
    ("arcore.columns",),
    ("arcore.primitives",),
)
BLOCKED = (
    "ray", "dvc", "hydra", "omegaconf", "mlflow", "pyarrow", "sklearn", "pandas", "matplotlib",
    "safetensors", "constriction", "tqdm", "yaml", "pipeline", "stages", "reproductions",
)  # fmt: skip
# What arcore needs beyond torch, in one module each, which imports it when it is called for.
LIBRARIES = {
    "arcore.saving": {"safetensors"},
    "arcore.hub": {"mlflow"},
    "arcore.entropy": {"constriction", "numpy"},
    "arcore.inference.data_frames": {"pandas"},
    "arcore.primitives.progress": {"tqdm"},
    "arcore.sklearn": {"numpy", "pandas", "sklearn"},
}
IMPORT_EVERYTHING = f"""
import importlib, pkgutil, sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {BLOCKED!r}:
            raise ImportError(f"blocked: {{name}}")

sys.meta_path.insert(0, Blocker())
import arcore

names = [module.name for module in pkgutil.walk_packages(arcore.__path__, "arcore.")]
for name in names:
    if name != "arcore.sklearn":  # an extra
        importlib.import_module(name)
for name in ("nade", "row_lstm"):
    arcore.create_model(name, arcore.events.Binary((1, 2, 2))).sample(2)
assert not {{*{BLOCKED!r}, "torch._dynamo"}} & set(sys.modules)  # which takes a second
print(len(names))
"""


def test_arcore_imports_with_torch_alone() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", IMPORT_EVERYTHING],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 10


def imports_of(module: str) -> Iterator[tuple[str, str | None]]:
    """What a module imports anywhere in its code: modules, and names from them."""
    for node in nodes_of(code_of(FILES[module])):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, f"{module}: imports are absolute"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield (inner, None) if inner in FILES else (node.module, alias.name)


@functools.cache
def graph() -> dict[str, list[str]]:
    """The modules of this project that each one imports."""
    return {m: sorted({name for name, _ in imports_of(m)} & set(FILES) - {m}) for m in FILES}


def part_of(module: str) -> str:
    """The folder that a module is part of; a module of arcore itself stands alone."""
    parts = module.split(".")
    inside = len(parts) > 2 or FILES[module].name == "__init__.py"
    if parts[0] == "stages":
        return "stages"
    if parts[:2] == ["pipeline", "datasets"]:
        return ".".join(parts[:3])
    return ".".join(parts[:2] if inside else parts)


def level_of(module: str) -> int | None:
    part = part_of(module)
    return next(
        (i for i, row in enumerate(LAYERS) if part in row or part.split(".")[0] in row), None
    )


def test_every_module_has_its_layer() -> None:
    assert [m for m in FILES if m not in PACKAGES and level_of(m) is None] == []


def test_imports_run_from_upper_layers_to_lower_ones() -> None:
    wrong = [
        f"{module} imports {other}"
        for module, others in graph().items()
        for other in others
        if module not in PACKAGES and other not in PACKAGES and part_of(module) != part_of(other)
        if (level_of(module) or 0) >= (level_of(other) or 0)
    ]
    assert wrong == []


def test_no_module_imports_itself_by_way_of_others() -> None:
    """Between modules, so inside a package too; an import for type checking alone counts."""
    graphlib.TopologicalSorter(graph()).prepare()  # whose error names the circle


def is_private(name: str | None) -> bool:
    return name is not None and name.startswith("_") and not name.startswith("__")


def test_tests_import_no_tests() -> None:
    wrong = re.compile(
        r"^ *(from|import) (\.|tests\.\S*(test_|conftest)|tests.* import test_)", re.M
    )
    paths = sorted((ROOT / "tests").rglob("*.py"))
    assert [path for path in paths if wrong.search(path.read_text(encoding="utf-8"))] == []


def test_private_names_stay_in_the_module_that_defines_them() -> None:
    """Those of libraries stand in one module; arcore reads torch's, and its models' own."""
    wrong = [
        f"{module} takes {name}"
        for module in FILES
        if module.split(".")[0] != "arcore" and module != PRIVATE
        for name in private_names(module)
        if name not in {*defined_in(code_of(FILES[module])), "_exit", "_fields"}  # documented
    ] + [
        f"{module} takes {name} of {other}"
        for module in FILES
        for other, name in imports_of(module)
        if other in FILES and is_private(name)
    ]
    assert wrong == []
    found = set(private_names(PRIVATE))
    assert "_create_default_callbacks" in found


PRIVATE = "pipeline.core.private_apis"


def private_names(module: str) -> Iterator[str]:
    """The private parts of the dotted names that a module imports, and private attributes."""
    for other, name in imports_of(module):
        parts = [*other.split("."), *([] if name is None else [name])]
        yield from (part for part in parts if is_private(part))
    for node in nodes_of(code_of(FILES[module])):
        if isinstance(node, ast.Attribute) and is_private(node.attr):
            yield node.attr


def defined_in(code: str) -> Iterator[str]:
    """Names of functions, classes, variables and own attributes that a module makes."""
    for node in nodes_of(code):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            if isinstance(node.value, ast.Name) and node.value.id == "self":
                yield node.attr


def test_arcore_names_only_torch_and_the_standard_library() -> None:
    allowed = {"arcore", "torch", *sys.stdlib_module_names}
    wrong = [
        f"{module} imports {name}"
        for module in FILES
        if module.split(".")[0] == "arcore"
        for name, _ in imports_of(module)
        if name.split(".")[0] not in allowed | LIBRARIES.get(module, set())
    ]
    assert wrong == []


BUILT_FROM = {
    "conv_nade": {"deep_nade"},
    "multiscale_pixelrnn": {"diagonal_bilstm", "row_lstm"},
    "parallel_multiscale": {"gated_pixelcnn", "pixelcnn"},
    "rnn_nade": {"nade"},
    "pixelvae": {"gated_pixelcnn"},
}


@pytest.mark.parametrize("name", arcore.list_models())
def test_importing_a_model_imports_no_other(name: str) -> None:
    """But those that it is built from."""
    found = {"arcore", f"arcore.models.{name}"}
    while more := {other for module in found for other in graph()[module]} - found:
        found |= more
    wanted = {name} | BUILT_FROM.get(name, set())
    models = {module for module in found if module.startswith("arcore.models.")}
    assert models == {f"arcore.models.{one}" for one in wanted}
