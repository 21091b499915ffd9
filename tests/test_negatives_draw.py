"""Which items are drawn as negatives, how often, and that the offset undoes it."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from positives import NUM_ITEMS, hour_of, log_of, parted, sample

from recdistill.data.negatives import write as negatives_write
from recdistill.data.negatives.sampled import kept


@pytest.mark.parametrize(
    ("by", "span"), [("uniform", 99), ("popularity", 99), ("recent_popularity", 2), ("session", 2)]
)
def test_only_items_of_earlier_hours_come(tmp_path, by, span):
    """Item 100 + h appears in hour h alone."""
    table = log_of(num_hours=6)
    item = table["item"].to_numpy().copy()
    hour = hour_of(table.to_pandas())
    hour -= hour.min()
    item[::5] = 100 + hour[::5]
    _, negative = parted(sample(tmp_path, table.set_column(2, "item", pa.array(item)), by=by, recent="2h"))
    marked = negative[negative["item"] >= 100]
    born, at = marked["item"] - 100, hour_of(marked) - 470_000
    assert len(marked) > 500
    assert ((born < at) & (born >= at - span)).all()
    assert set(at - born) == set(range(1, min(span, 5) + 1))


def expected(table, by, power, last, span):
    """Shares of the items in hours [last - span, last), by hand."""
    rows = table.to_pandas()
    hour = hour_of(rows) - 470_000
    rows = rows[(hour >= last - span) & (hour < last)]
    events = rows.groupby("item").size()
    weight = events / 2 if by == "session" else events**power  # every session has two items, once each
    return (weight / weight.sum()).reindex(range(NUM_ITEMS), fill_value=0).to_numpy()


@pytest.mark.parametrize(
    ("by", "power", "span"),
    [
        ("uniform", 0, 99),
        ("popularity", 1, 99),
        ("popularity", 0.5, 99),
        ("recent_popularity", 0.75, 2),
        ("session", 1, 3),
    ],
)
def test_items_come_as_often_as_their_weight_says(tmp_path, by, power, span):
    """Draws among rows whose request lacks the item, in the last hour: chi-square over items, each within 5 sigma."""
    table = log_of(num_rows=30_000, num_hours=5)
    rows = sample(tmp_path, table, by=by, power=1 if by in ("uniform", "session") else power, recent=f"{min(span, 9)}h")
    positive, negative = parted(rows[hour_of(rows) == 470_004])
    share = expected(table, by, power, 4, span)
    acted = positive.groupby("session")["item"].agg(set)
    free = np.array([2 * sum(item not in items for items in acted) for item in range(NUM_ITEMS)])  # two rows a session
    wanted = 4 * share * free
    found = np.bincount(negative["item"], minlength=NUM_ITEMS)
    assert wanted.min() > 50
    assert ((found - wanted) ** 2 / wanted).sum() < NUM_ITEMS + 5 * np.sqrt(2 * NUM_ITEMS)
    offset = rows[hour_of(rows) == 470_004].groupby("item")["offset"]
    assert (offset.max() == offset.min()).all()
    np.testing.assert_allclose(offset.first(), -np.log(4 * share), rtol=1e-5)


def fitted(rows) -> np.ndarray:
    """One log-odds for each item, by maximum likelihood."""
    item, label, offset = (torch.tensor(rows[n].to_numpy()) for n in ("item", "sampled_label", "offset"))
    score = torch.zeros(NUM_ITEMS, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([score], max_iter=100, line_search_fn="strong_wolfe", tolerance_grad=1e-9)

    def loss():
        optimiser.zero_grad()
        logit = score[item] + offset.double()
        value = torch.nn.functional.binary_cross_entropy_with_logits(logit, label.double())
        value.backward()
        return value

    optimiser.step(loss)
    return score.detach().numpy()


@pytest.mark.parametrize(("by", "power"), [("uniform", 1), ("popularity", 0.5), ("recent_popularity", 1)])
def test_with_the_offset_a_fit_finds_the_odds_of_the_whole_catalogue_without_it_those_of_the_sample(
    tmp_path, by, power
):
    """Whole catalogue: each positive of a known hour meets every item that its request lacks, once."""
    table = log_of(num_rows=20_000, num_hours=4)
    rows = sample(tmp_path / "1", table, by=by, power=power)
    bare = sample(tmp_path / "2", table, by=by, power=power, correction="none")
    positive, negative = parted(rows[hour_of(rows) > 470_000])
    acted = positive.groupby("session")["item"].agg(set)
    free = np.array([2 * sum(item not in items for items in acted) for item in range(NUM_ITEMS)])
    true = np.log(np.bincount(positive["item"]) / free)
    error = 1 / np.sqrt(np.bincount(negative["item"]))
    assert (np.abs(fitted(rows) - true) < 4 * error).all()
    share = expected(table, "popularity" if by != "uniform" else by, {"uniform": 0}.get(by, power), 4, 99)
    wrong = fitted(bare[hour_of(bare) > 470_000])
    assert (bare["offset"] == 0).all()
    assert (np.abs(wrong - (true - np.log(4 * share))) < 4 * error + 0.05).all()  # shares move a little over the hours
    assert np.abs(wrong - true).max() > 10 * error.max()


def test_before_anything_is_known_a_positive_stands_alone_and_its_loss_is_nothing(tmp_path):
    rows = sample(tmp_path)
    first = rows[hour_of(rows) == 470_000]
    assert len(first) == 500
    assert (first["sampled_label"] == 1).all()
    assert (first["offset"] == negatives_write.NOTHING_KNOWN).all()
    later = rows[hour_of(rows) > 470_000]
    assert later["offset"].abs().max() < 10


def test_an_item_that_is_new_counts_as_the_rarest_known(tmp_path):
    table = log_of()
    item = table["item"].to_numpy().copy()
    item[-1] = 999
    positive, negative = parted(sample(tmp_path, table.set_column(2, "item", pa.array(item))))
    same_hour = pd.concat([positive, negative])[lambda rows: hour_of(rows) == 470_007]
    others = same_hour[same_hour["item"] != 999]
    assert positive["offset"].iloc[-1] == others["offset"].max()


def test_thinning_keeps_positives_and_a_share_of_negatives_by_their_numbers():
    row_id = np.arange(100_000)
    label = (row_id % 4 == 0).astype(np.float32)
    stays = kept(row_id, label, 0.3, 7)
    assert stays[label == 1].all()
    sigma = np.sqrt(0.3 * 0.7 / 75_000)
    assert abs(stays[label == 0].mean() - 0.3) < 4 * sigma
    assert (kept(row_id[::-7], label[::-7], 0.3, 7) == stays[::-7]).all()
    assert (kept(row_id, label, 0.3, 8) != stays).any()
    assert (kept(row_id, label, 0.2, 7) <= stays).all()
    assert kept(row_id, label, 1.0, 7).all()
