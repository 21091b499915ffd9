"""A planted leak of every kind trips the probe; honest features, however good, do not."""

from pathlib import Path

import numpy as np
import pytest
from conftest import the_line

from recdistill.data.store import Rows, record_type
from recdistill.data.watch.leaks import leaks
from recdistill.types import IdFeature, Layout

ITEM = IdFeature(name="item", table="item", start=0, width=1, num_rows=102, kind="single")
OTHER = IdFeature(name="other", table="item", start=1, width=1, num_rows=102, kind="single")
TAGS = IdFeature(name="tags", table="tags", start=2, width=2, num_rows=20, kind="bag")
CODE = IdFeature(name="code", table="code", start=4, width=1, num_rows=60, kind="single")
PAST = IdFeature(name="history.item", table="item", start=5, width=3, num_rows=102, kind="history")
LAYOUT = Layout(ids=(ITEM, OTHER, TAGS, CODE, PAST), dense=("price", "rank"))
NUM_ROWS = 20_000


def flipped(label, share, generator):
    return np.where(generator.random(len(label)) < share, 1 - label, label)


def window(seed, plant=None, num_rows=NUM_ROWS, rate=0.3):
    """Rows whose item says something of the label; plant(columns, label, generator) changes the columns."""
    generator = np.random.default_rng(seed)
    item = generator.integers(2, 102, num_rows)
    label = (generator.random(num_rows) < rate * 2 * (item / 102)).astype(int)
    columns = {
        "item": item,
        "other": generator.integers(2, 102, num_rows),
        "tags": generator.integers(2, 20, (num_rows, 2)),
        "code": generator.integers(2, 60, num_rows),
        "past": generator.integers(2, 102, (num_rows, 3)),
        "price": generator.normal(size=num_rows) + label,
        "rank": generator.normal(size=num_rows),
    }
    if plant is not None:
        plant(columns, label, generator)
    records = np.zeros(num_rows, record_type(5, 2))
    records["row_id"], records["label"] = np.arange(num_rows), label
    records["ids"] = np.column_stack([columns[name] for name in ("item", "other", "tags", "code")])
    records["dense"] = np.column_stack([columns["price"], columns["rank"]])
    records["past"] = np.arange(num_rows)[:, None] * 3 + [0, 3]
    events = {"history.item": columns["past"].ravel().astype(np.int32)}
    return Rows(layout=LAYOUT, records=records, events=events)


def found(plant=None, limit=0.95, **options):
    return leaks(window(0, plant), window(1, plant, num_rows=5000), limit=limit, **options)


def test_honest_features_do_not_trip():
    assert found() == []


def test_an_honest_feature_trips_a_limit_below_what_it_knows():
    line = the_line(found(limit=0.6), "feature item:", "at most 0.6")
    auc = float(line.split("found ")[1].split(";")[0])
    assert 0.6 < auc < 0.75
    the_line(found(limit=0.6), "feature price:")  # AUC of a shift by one deviation: 0.76


def noisy_code(columns, label, generator):
    columns["code"] = 2 + flipped(label, 0.02, generator)


def many_codes_of_the_label(columns, label, generator):
    columns["code"] = 2 + label + 2 * generator.integers(0, 29, len(label))


def a_tag_of_the_label(columns, label, generator):
    columns["tags"] = np.column_stack([2 + label, np.full(len(label), 9)])


def absent_unless_positive(columns, label, generator):
    columns["code"] = np.where(label == 1, columns["code"], 0)


def next_item(columns, label, generator):
    """What the user acts on next: the row's own item where the row is acted on."""
    columns["other"] = np.where(label == 1, columns["item"], columns["other"])


def a_history_that_holds_the_row_itself(columns, label, generator):
    columns["past"][:, 1] = np.where(label == 1, columns["item"], columns["past"][:, 1])


def a_history_of_what_follows(columns, label, generator):
    """The newest event, which stands last, was made after the row."""
    columns["past"][:, 2] = 2 + flipped(label, 0.02, generator)


def a_number(columns, label, generator):
    columns["price"] = flipped(label, 0.02, generator)


def a_falling_number(columns, label, generator):
    columns["rank"] = -label + 0.1 * generator.normal(size=len(label))


def a_number_in_a_band(columns, label, generator):
    side = generator.choice([-1, 1], len(label))
    columns["rank"] = np.where(label == 1, 0, 5 * side) + generator.normal(size=len(label))


PLANTED = [
    (noisy_code, "feature code:"),
    (many_codes_of_the_label, "feature code:"),
    (a_tag_of_the_label, "feature tags:"),
    (absent_unless_positive, "feature code:"),
    (next_item, "feature other (holds item):"),
    (a_history_that_holds_the_row_itself, "feature history.item (holds item):"),
    (a_history_of_what_follows, "feature history.item:"),
    (a_number, "feature price:"),
    (a_falling_number, "feature rank:"),
    (a_number_in_a_band, "feature rank:"),
]


@pytest.mark.parametrize(("plant", "name"), PLANTED, ids=[plant.__name__ for plant, _ in PLANTED])
def test_a_planted_leak_is_the_one_feature_that_trips(plant, name):
    lines = found(plant)
    assert len(lines) == 1, lines
    line = the_line(lines, name, "wanted a valid AUC by itself of at most 0.95", "data.contract.max_single_auc")
    assert float(line.split("found ")[1].split(";")[0]) > 0.95
    assert found(plant, limit=1.0) == []


def a_code_that_settles_some_positives(columns, label, generator):
    settled = (label == 1) & (generator.random(len(label)) < 0.3)
    columns["code"] = np.where(settled, 58, np.minimum(columns["code"], 50))


def test_a_falling_number_trips_beyond_the_range_of_the_train_window_too():
    def lower(columns, label, generator):
        columns["rank"] = -100 - label + 0.1 * generator.normal(size=len(label))

    (line,) = leaks(window(0), window(1, lower), limit=0.95)
    assert line.startswith("feature rank:")


def test_that_two_features_are_both_unknown_is_not_that_they_hold_the_same():
    def both_unknown(columns, label, generator):
        for name in ("item", "other"):
            columns[name] = np.where(label == 1, 1, columns[name])

    assert [line.split(":")[0] for line in found(both_unknown)] == ["feature item", "feature other"]


def test_values_that_settle_the_label_of_some_rows_trip_whatever_the_auc():
    lines = found(a_code_that_settles_some_positives)
    share = the_line(lines, "feature code:", "at most 10% of the rows of a class").split("found ")[1].split("%")[0]
    assert 25 < float(share) < 35
    assert len(lines) == 1


def test_a_value_without_positives_is_no_leak_where_most_rows_are_none():
    def a_dead_banner(columns, label, generator):
        columns["code"] = np.where((label == 0) & (generator.random(len(label)) < 0.3), 58, columns["code"] % 50 + 2)

    train, valid = window(0, a_dead_banner, rate=0.03), window(1, a_dead_banner, rate=0.03)
    assert leaks(train, valid, limit=0.95) == []


def test_a_value_that_settles_labels_in_the_train_window_only_is_no_leak():
    def by_chance(columns, label, generator):
        columns["code"] = np.where(generator.random(len(label)) < 0.3, 58, np.minimum(columns["code"], 50))

    assert leaks(window(0, a_code_that_settles_some_positives), window(1, by_chance), limit=0.95) == []


def test_what_the_teacher_alone_reads_is_not_held_to_it():
    assert found(noisy_code, exempt={"code"}) == []
    assert found(next_item, exempt={"other"}) == []
    assert len(found(noisy_code, exempt={"item", "price"})) == 1


def test_all_leaks_are_found_at_once():
    def both(columns, label, generator):
        noisy_code(columns, label, generator)
        a_number(columns, label, generator)

    assert [line.split(":")[0] for line in found(both)] == ["feature code", "feature price"]


def test_ids_that_the_train_window_never_held_say_nothing():
    def low(columns, label, generator):
        columns["code"] = np.minimum(columns["code"], 50)

    def a_key(columns, label, generator):
        columns["code"] = 58 + label

    assert leaks(window(0, low), window(1, a_key), limit=0.55, exempt={"item", "other", "price"}) == []


ML_1M = Path(__file__).resolve().parents[2] / "shared" / "data" / "ml-1m"


@pytest.mark.skipif(not ML_1M.is_dir(), reason="wants ../shared/data/ml-1m")
def test_no_feature_of_a_real_log_trips():
    """Ids, ages, years and outcomes of the first 200,000 ratings against the next 50,000, without a prepare step."""
    import pyarrow.parquet as pq

    files = sorted(ML_1M.rglob("*.parquet"))[:6]
    log = pq.ParquetDataset(files, partitioning=None).read(
        columns=["movie_id", "gender", "age", "occupation", "rating"]
    )
    log = log.slice(0, 250_000)
    assert log.num_rows == 250_000
    columns = ["movie_id", "gender", "age", "occupation"]
    ids = np.column_stack([log.column(c).combine_chunks().dictionary_encode().indices.to_numpy() for c in columns]) + 2
    layout = Layout(
        ids=tuple(
            IdFeature(name=c, table=c, start=k, width=1, num_rows=int(ids[:, k].max()) + 1, kind="single")
            for k, c in enumerate(columns)
        ),
        dense=(),
    )
    records = np.zeros(len(ids), record_type(4, 0))
    records["row_id"], records["ids"] = np.arange(len(ids)), ids
    records["label"] = log.column("rating").to_numpy() >= 4
    train, valid = (Rows(layout=layout, records=r, events={}) for r in np.split(records, [200_000]))
    assert leaks(train, valid, limit=0.95) == []
    assert len(leaks(train, valid, limit=0.6)) == 1  # movie_id is about 0.7
