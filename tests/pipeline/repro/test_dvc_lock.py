"""Which locked stages code, parameters and data left behind, and because of which files."""

from pathlib import Path

import pytest
import yaml

from pipeline.core import stage_code
from pipeline.core.errors import UserError
from pipeline.core.records import flat
from pipeline.repro import dvc_lock
from tests.support.checkouts import commit

pytestmark = pytest.mark.filterwarnings("ignore:_NoneStep.value:DeprecationWarning")  # DVC's
LEAST = {
    "arcore/models/made.py": "",
    "arcore/models/nade.py": "import arcore.layers\n",
    "arcore/layers.py": "import math\n",
    "stages/train.py": 'import_module(f"arcore.models.{name}")\n',
}
DVC = {
    "stages": {
        "train": {
            "foreach": ["made", "nade"],
            "do": {
                "cmd": "python -m stages.train ${item}",
                "deps": ["data", "conf.yaml"],
                "params": ["experiments.${item}", {"code.yaml": ["train.${item}"]}],
                "outs": ["models/${item}"],
            },
        },
        "data": {"cmd": "true", "outs": ["data"]},
    }
}


@pytest.fixture
def checkout(tmp_path, monkeypatch) -> Path:
    for name, text in LEAST.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        for parent in path.relative_to(tmp_path).parents:
            if parent != Path("."):
                (tmp_path / parent / "__init__.py").touch()
    for stage in (
        *stage_code.STAGES_OF_DATA,
        *stage_code.STAGES_OF_ALL,
        *stage_code.STAGES_OF_A_MODEL,
    ):
        (tmp_path / f"stages/{stage}.py").touch()
    (tmp_path / "params.yaml").write_text("experiments: {made: {epochs: 1}, nade: {epochs: 1}}\n")
    (tmp_path / "conf.yaml").write_text("a: 1\n")
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump(DVC))
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".gitignore").write_text("/.dvc/tmp\n/.dvc/cache\n")
    monkeypatch.chdir(tmp_path)
    stage_code.write(tmp_path)
    locked = {"data": {"cmd": "true", "outs": [{"path": "data", "hash": "md5", "md5": "1" * 32}]}}
    hashes = flat(yaml.safe_load((tmp_path / "code.yaml").read_text()))
    for model in ("made", "nade"):
        locked[f"train@{model}"] = {
            "cmd": f"python -m stages.train {model}",
            "deps": [
                {"path": "conf.yaml", "hash": "md5", "md5": "e0ccdaf42c593022e15b18cc0e96d201"},
                {"path": "data", "hash": "md5", "md5": "1" * 32},
            ],
            "params": {
                "code.yaml": {f"train.{model}": hashes[f"train.{model}"]},
                "params.yaml": {f"experiments.{model}": {"epochs": 1}},
            },
            "outs": [{"path": f"models/{model}", "hash": "md5", "md5": "2" * 32}],
        }
    (tmp_path / "dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": locked}))
    commit(tmp_path)
    return tmp_path


def test_it_says_which_files_changed(checkout) -> None:
    (unchanged,) = dvc_lock.why(checkout, "train.nade")
    assert unchanged.startswith("train.nade: no change since train@nade was locked")
    (checkout / "arcore/layers.py").write_text("import arcore.extra\n")
    (checkout / "arcore/extra.py").write_text("import os\n")
    (checkout / "arcore/models/nade.py").write_text("import arcore.layers  # as before\n")
    head, *files = dvc_lock.why(checkout, "train.nade")
    assert head.startswith("train.nade: train@nade was locked with ")
    assert files == ["  new      arcore/extra.py", "  changed  arcore/layers.py"]
    assert "no change" in dvc_lock.why(checkout, "train.made")[0]
    assert dvc_lock.why(checkout, "fetch") == ["fetch: no locked stage has this key"]
    with pytest.raises(UserError, match="unknown key"):
        dvc_lock.why(checkout, "train.made2")
    lock, now = checkout / "dvc.lock", stage_code.StageCode(checkout).short("train.made")
    lock.write_text(lock.read_text().replace(now, "a" * 16))
    (line,) = dvc_lock.why(checkout, "train.made")
    assert line.endswith("was locked with aaaaaaaaaaaaaaaa, which is in no commit")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", "")
        with pytest.raises(UserError, match="^git: expected the program"):
            dvc_lock.why(checkout, "train.made")


def test_no_stage_is_out_of_step_at_first(checkout) -> None:
    """Though there are no data: what a stage reads is as the other one wrote it."""
    assert dvc_lock.out_of_step([]) == ["0 of 3 stages are out of step with dvc.lock"]


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        ("params.yaml", "{epochs: 1}}", "{epochs: 2}}", "train@nade: experiments.nade"),
        ("conf.yaml", "1", "2", "train@nade: conf.yaml"),
        ("arcore/layers.py", "math", "os", "train@nade: train.nade"),
        ("dvc.yaml", "stages.train", "stages.learn", "train@nade: command"),
        ("dvc.lock", "md5: '1111111111", "md5: '1111111112", "train@nade: data"),
        ("dvc.lock", "experiments.nade", "experiments.none", "train@nade: experiments.nade"),
    ],
)
def test_what_left_a_stage_behind_is_named(checkout, file, old, new, said) -> None:
    path = checkout / file
    path.write_text(path.read_text().replace(old, new, 1))
    stage_code.write(checkout)
    with pytest.raises(UserError, match="dvc: .*nothing"):
        dvc_lock.out_of_step(["nothing"])
    first, last = dvc_lock.out_of_step(["train@nade"])
    assert first == said and last == "1 of 2 stages are out of step with dvc.lock"
