"""Whatever files and arguments hold: success, or one line of a ValueError or UserError.

`ARCORE_FUZZ` multiplies the number of cases.
"""

import copy
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.internal.conjecture import providers

import arcore
from pipeline.core.errors import UserError
from pipeline.core.records import parse_object
from pipeline.core.yaml_settings import read_yaml
from pipeline.data.manifest import _own_sha256, read_manifest
from pipeline.evaluation.result_records import Result
from pipeline.experiments import compose
from pipeline.training import saved_models
from pipeline.training.training_records import TrainingRecord
from tests.support.measured_files import TRAINING

SCALE = int(os.environ.get("ARCORE_FUZZ", "1"))


def cases(number: int) -> Callable[[Any], Any]:
    return settings(
        max_examples=number * SCALE,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


def outcome(call: Callable[[], object]) -> str:
    """Call; return whether it was refused. Anything else is the failure that is looked for."""
    try:
        call()
    except (ValueError, UserError) as error:
        text = str(error)
        assert text and "\n" not in text, repr(text)
        return "refused"
    return "accepted"


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 9),
    st.sampled_from([10**15, 1 << 63, -(1 << 70), float("inf"), float("nan"), 1e-320, 0.5, -1.5]),
    st.sampled_from(
        ["", "made", "nade", "digits", "???", "${a}", "raster", "1", "\x00", "a: [", "ü"]
    ),
    st.text(max_size=6),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=5,
)


def places(tree: Any) -> Iterator[tuple[Any, ...]]:
    """The path of every value in nested mappings and lists."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree)
    for key, value in items:
        yield (key,)
        if isinstance(value, dict | list):
            yield from ((key, *rest) for rest in places(value))


@st.composite
def mutated(draw: Any, original: Any) -> Any:
    """A copy with one or two values replaced, removed or added."""
    tree = copy.deepcopy(original)
    for _ in range(draw(st.integers(0, 2))):
        known = list(places(tree))
        if not known:
            break
        *above, last = draw(st.sampled_from(known))
        inner = tree
        for key in above:
            inner = inner[key]
        action = draw(st.sampled_from(["replace", "replace", "replace", "remove", "add"]))
        if action == "remove":
            del inner[last]
        elif action == "add" and isinstance(inner, dict):
            inner[draw(st.text(max_size=5))] = draw(VALUES)
        else:
            inner[last] = draw(VALUES)
    return tree


PARAMS = {
    "experiments": {
        "toy": {
            "dataset": "digits",
            "model": "made",
            "base": None,
            "model_overrides": {"hidden": [8], "num_masks": 2},
            "trainer": {"max_epochs": 3, "optimizer": {"name": "adam", "learning_rate": 0.1}},
            "evaluation": {"num_members": 2, "published": {"model": "a", "variant": "b"}},
        }
    }
}
METRICS = {
    "experiment": "toy", "dataset": "digits", "model": "made", "num_members": 1, "unit": "nats",
    "split": "test", "nats": 2.0, "nats_stderr": 0.1, "bits_per_dim": 0.9617966939,
    "bits_per_dim_stderr": 0.1, "num_rows": 9, "exact": True, "valid_nats": 2.5,
    "published": {"model": "a", "variant": "b"}, "weights_sha256": "0" * 64,
}  # fmt: skip
EVENT = {"kind": "levels", "shape": [3], "num_levels": 4}
CONFIG = {
    "model": {"name": "made", "hidden": [4], "num_masks": 1},
    "event": EVENT,
    "dataset_sha256": "0" * 64,
    "trainer": {"precision": "float32"},
}


@pytest.fixture(scope="module")
def manifest(digits: Path) -> tuple[dict[str, Any], Path]:
    folder = digits / "data" / "shards" / "digits_binary"
    return json.loads((folder / "manifest.json").read_text()), folder


def of_params(params: Any) -> str:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(Path(os.environ["PYTEST_FUZZ_HOME"]))
        Path("params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
        return outcome(lambda: compose.load("toy"))


def of_metrics(metrics: Any) -> str:
    def read() -> None:
        text = json.dumps(metrics)
        result = Result.from_dict(parse_object(text, "metrics.json"), "metrics.json")
        result.check("f", arcore.events.from_dict(EVENT))

    return outcome(read)


def of_manifest(described: Any) -> str:
    folder = Path(os.environ["PYTEST_FUZZ_HOME"])
    (folder / "manifest.json").write_text(json.dumps(described))
    return outcome(lambda: read_manifest(folder))


def of_record(record: Any) -> str:
    return outcome(lambda: TrainingRecord.from_dict(parse_object(json.dumps(record), "f"), "f"))


def of_config(config: Any) -> str:
    path = Path(os.environ["PYTEST_FUZZ_HOME"], "config.yaml")
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return outcome(lambda: saved_models._described(read_yaml(path), "config.yaml"))


READ = {
    "params": (of_params, PARAMS, 60),
    "metrics": (of_metrics, METRICS, 300),
    "record": (of_record, TRAINING, 150),
    "config": (of_config, CONFIG, 150),
}


@pytest.fixture(autouse=True, scope="module")
def fuzz_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        # Or cases would hold constants of whatever modules this process loaded before.
        patch.setattr(providers, "_get_local_constants", providers.Constants)
        patch.setenv("PYTEST_FUZZ_HOME", str(tmp_path_factory.mktemp("fuzz")))
        yield


@pytest.mark.parametrize("name", READ)
def test_mutated_content(name: str) -> None:
    """What is mutated is accepted, or nothing behind its one fault would be reached."""
    read, original, number = READ[name]
    assert read(original) == "accepted"

    @cases(number)
    @given(content=mutated(original))
    def mutations(content: Any) -> None:
        read(content)

    mutations()


def test_the_manifest_is_accepted(manifest: tuple[dict[str, Any], Path]) -> None:
    assert of_manifest(manifest[0]) == "accepted"


@cases(200)
@given(data=st.data(), sealed=st.booleans())
def test_manifests(manifest: tuple[dict[str, Any], Path], data: Any, sealed: bool) -> None:
    described = data.draw(mutated(manifest[0]))
    if sealed:
        described["manifest_sha256"] = _own_sha256(described)
    of_manifest(described)


@cases(200)
@given(content=st.one_of(st.binary(max_size=40), st.text("{}[]:,\"'&*!|>-\n 01ae", max_size=40)))
def test_texts(content: bytes | str) -> None:
    path = Path(os.environ["PYTEST_FUZZ_HOME"], "any")
    data = content.encode() if isinstance(content, str) else content
    path.write_bytes(data)
    outcome(lambda: parse_object(data, "f"))
    outcome(lambda: read_yaml(path))


@cases(150)
@given(
    name=st.sampled_from([*arcore.list_models(), "nothing"]),
    event=mutated(EVENT),
    data=st.data(),
)
def test_models(name: str, event: Any, data: Any) -> None:
    def build() -> None:
        found = arcore.events.from_dict(event)
        known = []
        if name in arcore.list_models():
            kind = arcore.zoo.model_class(name)
            known = sorted(kind.Config.__dataclass_fields__)
        keys = st.sampled_from([*known, "odd"])
        given_ = data.draw(st.dictionaries(keys, VALUES, max_size=2))
        if None not in found.shape and found.size > 1000:
            return
        arcore.create_model(name, found, **given_)

    outcome(build)


TENSORS = st.one_of(
    VALUES,
    st.builds(
        lambda shape, dtype, value: torch.full(shape, value).to(dtype),
        st.lists(st.integers(0, 4), max_size=3),
        st.sampled_from([torch.int64, torch.float32, torch.bool, torch.complex64, torch.uint8]),
        st.sampled_from([0.0, 1.0, 3.0, -1.0, float("nan"), float("inf"), 0.5]),
    ),
    st.builds(lambda n: torch.zeros(n, 3, device="meta"), st.integers(0, 2)),
    st.builds(lambda n: torch.zeros(n, 3).to_sparse(), st.integers(1, 2)),
)
MODELS = [arcore.create_model(n, arcore.events.Levels(4, (3,))) for n in ("made", "nade")]


@cases(200)
@given(model=st.sampled_from(MODELS), x=TENSORS, y=TENSORS, number=SCALARS, factor=SCALARS)
def test_calls(model: Any, x: Any, y: Any, number: Any, factor: Any) -> None:
    if isinstance(number, int) and number > 100:
        number = -number
    outcome(lambda: model.log_prob(x))
    outcome(lambda: model.log_prob(torch.zeros(2, 3, dtype=torch.int64), y))
    outcome(lambda: model.impute(x, y))
    outcome(lambda: model.sample(number, temperature=factor))
    outcome(lambda: model.sample(1, y, generator=number))


def test_an_outcome_says_which() -> None:
    assert outcome(lambda: MODELS[0].sample(-1)) == "refused"
    assert outcome(lambda: MODELS[0].sample(1)) == "accepted"
