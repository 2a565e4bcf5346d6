"""Results: every record in `results/` is read, and written again as it stands."""

import json
from pathlib import Path

import pytest

from arcore.events import Binary, Levels, Real
from pipeline.core.errors import UserError
from pipeline.evaluation.reading import read_evaluated
from pipeline.evaluation.result_records import CodecResult, Result, Score
from tests.places import ROOT

RECORDED = sorted((ROOT / "results").glob("*/metrics.json"))


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.parent.name)
def test_a_recorded_result_loads_and_keeps_every_value(path: Path, tmp_path: Path) -> None:
    found = json.loads(path.read_text())
    result = Result.read(path.parent)
    written = result.to_dict()
    assert {key: written.get(key) for key in found} == found
    if (path.parent / "timing.json").is_file():  # records before had all in one file
        result.write(tmp_path)
        assert (tmp_path / path.name).read_bytes() == path.read_bytes()
        timing = json.loads(path.with_name("timing.json").read_text())
        assert timing.items() >= json.loads((tmp_path / "timing.json").read_text()).items()


def test_records_are_results_with_a_config_of_their_own(home: Path) -> None:
    folders = [path.parent for path in RECORDED if path.parent.name.startswith("dna-")]
    read = [read_evaluated(folder) for folder in folders]
    assert [one.name for one in read] == ["dna-made-ensemble", "dna-nade"]
    assert read[0].event == Binary((180,)) and read[0].config.model_name == "made"
    assert read[0].result.score.in_unit("nats", read[0].event)[0] == read[0].result.score.nats


def test_a_score_has_both_units() -> None:
    event = Real((2,), bin_width=0.5)
    score = Score.from_nats(0.0, 2.0, event)
    assert score.bits_per_dim == 1.0, "of two bins a dimension"
    assert score.bits_per_dim_stderr == pytest.approx(1 / 0.6931471805599453)
    assert score.in_unit("nats_per_dim", event)[0] == 0.0 and score.in_unit("nats", event)[1] == 2.0


def test_open_events_count_their_mean_size() -> None:
    event = Levels(4, (None,))
    score = Score.from_nats(10 * 0.6931471805599453, 0.0, event, size=5.0)
    assert score.bits_per_dim == pytest.approx(2.0)
    score.check(event, 5.0, "f")
    for size, message in ((None, "f: mean_size"), (0.0, "f: mean_size"), (4.0, "f: bits_per_dim")):
        with pytest.raises(UserError, match=message):
            score.check(event, size, "f")


def test_codecs_of_images_alone_say_no_kind() -> None:
    score = Score.from_nats(8.0, 1.0, Binary((8,)))
    image = CodecResult(label="PNG", settings="", num_rows=3, bytes=3, score=score)
    sound = CodecResult(label="zstd", settings="", num_rows=3, score=score, mean_size=8.0)
    assert list(image.to_dict())[:4] == ["label", "settings", "num_rows", "bytes"]
    assert list(sound.to_dict())[:4] == ["label", "settings", "kind", "num_rows"]
    assert list(sound.to_dict())[-1] == "mean_size" and "bytes" not in sound.to_dict()
    for one in (image, sound):
        assert CodecResult.from_dict(one.to_dict(), "f") == one
