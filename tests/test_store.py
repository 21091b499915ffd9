"""The store: records that are aligned, a past that is read newest first, and rows that are those asked for."""

import numpy as np
import pytest
from conftest import small_layout
from hypothesis import given
from hypothesis import strategies as st

from recdistill.data.npy import NpyWriter
from recdistill.data.store import Rows, open_rows, record_type
from recdistill.types import IdFeature, Layout

EVENTS = {"history.item": np.array([2, 3, 4, 5, 6, 7], dtype=np.int32), "history.click": np.array([2, 3, 2, 2, 3, 3])}


def made(num_rows, layout, past=None, seed=0):
    """Records of random ids and numbers; row_id 100, 101 and so on."""
    generator = np.random.default_rng(seed)
    records = np.zeros(num_rows, dtype=record_type(sum(f.width for f in layout.pooled), len(layout.dense)))
    records["row_id"] = np.arange(100, 100 + num_rows)
    for name in ("time", "user", "request"):
        records[name] = generator.integers(-(2**62), 2**62, num_rows)
    for name in ("label", "offset", "dense"):
        if name in records.dtype.names:
            records[name] = generator.random(records[name].shape)
    if "ids" in records.dtype.names:
        records["ids"] = generator.integers(0, 2**31, records["ids"].shape)
    records["past"] = 0 if past is None else past
    return records


def only(*widths, dense=()):
    """A layout of single ids and bags."""
    starts = np.cumsum([0, *widths])
    kinds = ["single" if width == 1 else "bag" for width in widths]
    features = [
        IdFeature(name=f"f{n}", table=f"f{n}", start=int(starts[n]), width=width, num_rows=9, kind=kinds[n])
        for n, width in enumerate(widths)
    ]
    return Layout(ids=tuple(features), dense=dense)


@pytest.mark.parametrize("num_ids", [0, 1, 2, 7])
@pytest.mark.parametrize("num_dense", [0, 1, 2, 5])
def test_records_are_whole_words_and_their_fields_aligned(num_ids, num_dense):
    kind = record_type(num_ids, num_dense)
    assert kind.itemsize % 8 == 0
    assert kind.itemsize - (4 * 8 + 2 * 8 + 2 * 4 + 4 * num_ids + 4 * num_dense) in (0, 4)
    for name in kind.names:
        field, offset = kind.fields[name][:2]
        assert offset % field.base.alignment == 0, name
    shapes = {name: kind[name].shape for name in ("past", "ids", "dense") if name in kind.names}
    blocks = {"ids": (num_ids,), "dense": (num_dense,)}
    assert shapes == {"past": (2,)} | {name: shape for name, shape in blocks.items() if shape != (0,)}


@pytest.mark.parametrize("layout", [only(1, 3, dense=("a", "b")), only(1), only(2, dense=("a",)), small_layout()])
@given(places=st.lists(st.integers(0, 19), max_size=12))
def test_taken_records_are_those_asked_for(layout, places):
    rows = Rows(layout=layout, records=made(20, layout), events=EVENTS)
    index = np.array(places, dtype=np.int64)
    taken = rows.take(index)
    assert (taken.dtype, taken.shape) == (rows.records.dtype, index.shape)
    assert taken.tobytes() == rows.records[index].tobytes()
    assert np.array_equal(
        rows.dense(index), rows.records["dense"][index] if layout.dense else np.zeros((len(index), 0))
    )
    assert rows.dense(index).dtype == np.float32
    num_now = sum(feature.width for feature in layout.pooled)
    assert np.array_equal(rows.ids(index)[:, :num_now], rows.records["ids"][index])
    assert rows.ids(index).shape == (len(index), layout.num_id_columns)
    assert rows.ids(index).dtype == np.int64


def test_a_window_without_rows_can_be_read():
    for layout in (small_layout(), only(1)):
        rows = Rows(layout=layout, records=made(0, layout), events=EVENTS)
        none = np.empty(0, dtype=np.int64)
        assert (len(rows), len(rows.take(none)), len(rows["label"])) == (0, 0, 0)
        assert rows.ids(none).shape == (0, layout.num_id_columns)
        assert rows.dense(none).shape == (0, len(layout.dense))


def test_pasts_are_newest_first_and_padded():
    """Six events; a row's past is [start, end) of them, of which the newest four count."""
    past = [[0, 0], [0, 1], [0, 3], [0, 6], [3, 6], [3, 3], [6, 6]]
    layout = small_layout()
    rows = Rows(layout=layout, records=made(7, layout, past), events=EVENTS)
    found = rows.ids(np.arange(7))[:, 5:]
    items = [[0] * 4, [2, 0, 0, 0], [4, 3, 2, 0], [7, 6, 5, 4], [7, 6, 5, 0], [0] * 4, [0] * 4]
    clicks = [[0] * 4, [2, 0, 0, 0], [2, 3, 2, 0], [3, 3, 2, 2], [3, 3, 2, 0], [0] * 4, [0] * 4]
    assert found.tolist() == [item + click for item, click in zip(items, clicks, strict=True)]


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)).map(sorted), min_size=1, max_size=8), st.data())
def test_pasts_of_any_length_are_what_a_loop_finds(past, data):
    long, short = data.draw(st.integers(1, 12)), data.draw(st.integers(1, 12))
    now = IdFeature(name="item", table="item", start=0, width=1, num_rows=99, kind="single")
    one = IdFeature(name="history.item", table="item", start=1, width=long, num_rows=99, kind="history")
    two = IdFeature(name="history.click", table="c", start=1 + long, width=short, num_rows=99, kind="history")
    layout = Layout(ids=(now, one, two), dense=())
    events = {
        f.name: np.array(data.draw(st.lists(st.integers(1, 98), min_size=9, max_size=9)), "i4") for f in (one, two)
    }
    rows = Rows(layout=layout, records=made(len(past), layout, past), events=events)
    found = rows.ids(np.arange(len(past)))
    for line, (start, end) in zip(found, past, strict=True):
        for feature in (one, two):
            newest = events[feature.name][start:end][::-1][: feature.width].tolist()
            assert line[feature.columns].tolist() == newest + [0] * (feature.width - len(newest))


def test_no_events_at_all_are_an_empty_past():
    layout = small_layout()
    none = {name: np.empty(0, dtype=np.int32) for name in EVENTS}
    rows = Rows(layout=layout, records=made(3, layout), events=none)
    assert not rows.ids(np.arange(3))[:, 5:].any()


def test_fields_are_views_and_takings_are_copies():
    layout = small_layout()
    rows = Rows(layout=layout, records=made(5, layout), events=EVENTS)
    assert rows["row_id"].tolist() == [100, 101, 102, 103, 104]
    assert rows["past"].shape == (5, 2)
    assert np.shares_memory(rows["label"], rows.records)
    before = rows.records.tobytes()
    every = np.arange(5)
    for copy in (rows.take(every).view(np.uint8), rows.ids(every), rows.dense(every)):
        copy[:] = 1
    assert rows.records.tobytes() == before


def test_what_was_written_is_read_through_the_memory_map(tmp_path):
    layout = small_layout()
    records = made(9, layout, [[n // 2, n // 2 + 2] for n in range(9)])
    (tmp_path / "rows" / "valid").mkdir(parents=True)
    writer = NpyWriter(tmp_path / "rows" / "valid" / "rows.npy", records.dtype)
    for part in np.array_split(records, 4):
        writer.add(part)
    writer.close()
    (tmp_path / "events").mkdir()
    for name, ids in EVENTS.items():
        np.save(tmp_path / "events" / f"{name}.npy", ids)
    rows, here = open_rows(tmp_path, "valid", layout), Rows(layout=layout, records=records, events=EVENTS)
    assert isinstance(rows.records, np.memmap)
    index = np.array([8, 0, 0, 3])
    assert np.array_equal(rows.ids(index), here.ids(index))
    assert np.array_equal(rows.dense(index), here.dense(index))
    assert np.array_equal(rows["past"], here["past"])
    with pytest.raises(ValueError, match="read-only"):
        rows["label"][0] = 7
