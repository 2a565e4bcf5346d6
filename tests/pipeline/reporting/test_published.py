"""Published numbers: every row loads, signs and units, and how a counterpart is found."""

import pytest
import yaml

from pipeline.core.errors import UserError
from pipeline.experiments.schema import EvaluationConfig
from pipeline.reporting import published
from pipeline.reporting.published import load_published, match, published_for
from tests.support.measured_files import DIGITS, MNIST


def test_every_published_row_loads_and_null_values_are_skipped():
    rows = load_published()
    names = {"binarized_mnist", "dna", "mushrooms", "nips-0-12", "mnist_dynamic_binarized"}
    names |= {"red-wine", "cifar10", "imagenet32", "imagenet64", "moving_mnist", "robotic_pushing"}
    circuits = {"nltcs", "plants", "baudio", "jester", "bnetflix", "accidents", "pumsb_star", "bbc"}
    music = {"jsb_chorales", "nottingham", "piano_midi", "muse_data"}
    assert {row.dataset for row in rows} == names | circuits | music
    assert len(rows) == 98 - 3 + 64 + 36 + 5 + len(circuits | music)
    protocols = {row.dataset: row.protocol for row in rows if row.protocol}
    assert protocols == {"binarized_mnist": "fixed", "mnist_dynamic_binarized": "dynamic"}
    signs = {"nll": 1, "ll": -1}
    in_nats = [row for row in rows if row.metric == "nats"]
    assert all(row.nll("nats", MNIST) == signs[row.sense] * row.value for row in in_nats)
    assert {row.sense for row in rows if row.dataset == "red-wine"} == {"ll"}


def row(**more):
    base = {"model": "M", "variant": "-", "dataset": "d", "metric": "nats", "split": "test"}
    return published.PublishedResult(
        **{**base, "value": 2.0, "source": "s", "verified": "code"} | more
    )


def test_signs_senses_and_units():
    assert row(relation="upper_bound").sign == "<=" and row(relation="approx").sign == "~"
    gain = row(value=-7.5, sense="ll")
    assert gain.nll("nats", MNIST) == 7.5
    assert row(sense="ll", relation="below").sign == ">"
    assert row(metric="mos").nll("nats", MNIST) is None
    bits = row(metric="bits_per_dim", value=1.0).nll("nats", DIGITS)
    assert row(value=bits).nll("bits_per_dim", DIGITS) == pytest.approx(1.0)
    assert "unconfirmed" in row(verified="memory").status
    with pytest.raises(ValueError, match="(?s)verified.*'lecture', 'code'"):
        row(verified="rumour")


def test_every_source_has_an_address() -> None:
    without = {one.source for one in published.load_published() if not one.address}
    assert not without
    assert row(source="Uria et al. 2014 / JMLR 2016 UCI table").address.endswith("1310.1757")
    assert row(source="a rumour").address == ""
    made = row(source="Germain et al. 2015, MNIST table; van den Oord 2016a Table 4")
    assert made.address.endswith("1502.03509")
    assert row(source="Larochelle & Murray 2011; MarcCote/NADE a.py").address.endswith("NADE.py")


def test_a_malformed_published_file_is_named(tmp_path):
    path = tmp_path / "rows.yaml"
    good = {"model": "M", "variant": "-", "dataset": "d", "metric": "nats", "split": "test"}
    good |= {"value": 1.0, "source": "s", "verified": "code"}
    for rows, message in (
        ([good, good], "row 2: d / M / - / nats / test is given twice"),
        ([{**good, "valeu": 1}], "row 1 'valeu'; did you mean 'value'"),
        ([{**good, "value": "low"}], "row 1: value: expected a number, got 'low'"),
        ([{**good, "sense": "ll", "relation": "upper_bound"}], "row 1: expected .*sign flips"),
        ([{**good, "dataset": "binarized_mnist"}], "row 1: expected protocol fixed for binar"),
        ([{**good, "protocol": "dynamic"}], "row 1: expected protocol null for d, got"),
        ([{"model": "M"}], "row 1: missing variant"),
    ):
        load_published.cache_clear()
        path.write_text(yaml.safe_dump({"results": rows}))
        with pytest.raises(UserError, match=message):
            load_published(path)
    load_published.cache_clear()


def test_matching_names_the_nearest():
    rows = published_for("binarized_mnist")
    assert match(rows, {"model": "MADE", "variant": "2hl, 32 masks"}, "e").value == 86.64
    with pytest.raises(UserError, match="MADE of e '2hl, 32 mask'; did you mean '2hl, 32 masks'"):
        match(rows, {"model": "MADE", "variant": "2hl, 32 mask"}, "e")
    with pytest.raises(UserError, match="model of e 'MAED'; did you mean 'MADE'"):
        match(rows, {"model": "MAED", "variant": "-"}, "e")
    with pytest.raises(UserError, match="expected {model, variant, split} or null"):
        match(rows, {"variant": "-"}, "e")


def test_a_counterpart_of_several_splits_is_that_which_is_named():
    """Its own are validation, seen and novel objects, and none of them is `test`."""
    rows, wanted = published_for("robotic_pushing"), {"model": "VPN", "variant": "RMB, dilation"}
    splits = [row.split for row in rows if (row.model, row.variant) == ("VPN", "RMB, dilation")]
    assert len(splits) > 1 and "test" not in splits
    with pytest.raises(UserError, match=r"e: split: expected one of \['test_novel.*, got none"):
        match(rows, wanted, "e")
    for split in splits:
        assert match(rows, wanted | {"split": split}, "e").split == split
    with pytest.raises(UserError, match="e: split: expected one of .*, got 'tset'"):
        match(rows, wanted | {"split": "tset"}, "e")


def test_an_entry_may_name_the_split_of_its_counterpart():
    wanted = {"model": "VPN", "variant": "RMB, dilation", "split": "test_seen"}
    assert EvaluationConfig(published=wanted).published == wanted
    with pytest.raises(UserError, match="evaluation.published: expected {model, variant, split}"):
        EvaluationConfig(published=wanted | {"value": "1"})
