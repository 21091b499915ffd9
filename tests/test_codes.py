"""Codes: every place gives back its plain value, whatever the Arrow type and whatever came before."""

from collections import Counter
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recdistill.data import codes as module
from recdistill.data.codes import Coder, Known, narrow, narrow_numbers
from recdistill.data.log.values import plain_ids

SMALL = {
    "int8": (pa.int8(), st.integers(-128, 127)),
    "int64": (pa.int64(), st.integers(-2, 2) | st.integers(-(2**63), 2**63 - 1)),
    "uint64": (pa.uint64(), st.integers(0, 2) | st.integers(2**63 - 2, 2**64 - 1)),
    "string": (pa.string(), st.text(max_size=2)),
    "large_string": (pa.large_string(), st.sampled_from(["", "a", "ä", " "])),
    "bool": (pa.bool_(), st.booleans()),
    "decimal": (pa.decimal128(4, 2), st.sampled_from([Decimal("1.50"), Decimal("-2.25")])),
    "double": (pa.float64(), st.sampled_from([0.5, -3.25])),
}


def plain_columns(name):
    kind, values = SMALL[name]
    return st.lists(st.none() | values, max_size=12).map(lambda found: pa.array(found, type=kind))


def columns():
    """Arrays of every type of id, nulls among them, plain and as dictionaries."""
    plain = st.sampled_from(sorted(SMALL)).flatmap(plain_columns)
    return plain | plain.map(lambda array: array.dictionary_encode())


def coded_by(coder, array):
    """Its codes and values, once the counts are seen to be right."""
    found = coder(array)
    counted = Counter(code for place in found.codes for code in place.tolist() if code >= 0)
    assert found.counts.tolist() == [counted[code] for code in range(len(found.values))]
    return found.codes, found.values


def restored(coded, values):
    """Per place, the value behind each code."""
    plain = values.to_pylist()
    return [[None if code < 0 else plain[code] for code in place.tolist()] for place in coded]


@given(columns())
def test_codes_give_back_the_plain_value_of_every_row(array):
    coded, values = coded_by(Coder(None), array)
    assert restored(coded, values) == [plain_ids(array).to_pylist()]
    assert values.null_count == 0
    assert len(values.unique()) == len(values)
    assert coded[0].dtype == np.int8


@given(columns(), st.integers(1, 4), st.data())
def test_codes_of_lists_give_back_the_first_elements(flat, width, data):
    cuts = st.lists(st.integers(0, len(flat)), max_size=6).map(sorted)
    ends = [0, *data.draw(cuts), len(flat)]
    missing = data.draw(st.lists(st.booleans(), min_size=len(ends) - 1, max_size=len(ends) - 1))
    kind = data.draw(st.sampled_from([pa.ListArray, pa.LargeListArray]))
    offsets = pa.array(ends, pa.int32() if kind is pa.ListArray else pa.int64())
    lists = kind.from_arrays(offsets, flat, mask=pa.array(missing))  # a list that is null may still have elements
    coded, values = coded_by(Coder(width), lists)
    plain = plain_ids(flat).to_pylist()
    elements = [[] if no else plain[a:b][:width] for no, a, b in zip(missing, ends, ends[1:], strict=False)]
    longest = max(map(len, elements))
    padded = [[row[place] if place < len(row) else None for row in elements] for place in range(longest)]
    assert restored(coded, values) == padded


def test_a_slice_of_lists_is_coded_as_itself():
    lists = pa.array([["x", "y"], ["a", None, "b"], None, [], ["b"]])
    coded, values = coded_by(Coder(3), lists.slice(1, 4))
    assert restored(coded, values) == [["a", None, None, "b"], [None] * 4, ["b", None, None, None]]


@pytest.mark.parametrize("array", [pa.array([[], None]), pa.nulls(2), pa.array([], pa.list_(pa.int64()))])
def test_lists_without_elements_have_no_place(array):
    coded, values = coded_by(Coder(5), array)
    assert (coded, len(values)) == ([], 0)


def test_a_column_without_a_type_has_no_values():
    (coded,), values = coded_by(Coder(None), pa.nulls(3))
    assert (coded.tolist(), len(values)) == ([-1] * 3, 0)


@pytest.mark.parametrize("index", [pa.int8(), pa.uint8(), pa.int32(), pa.uint32(), pa.int64()])
@pytest.mark.parametrize("dictionary", [["a", None, "b", "a"], [7, None, 9, 7]])
def test_a_dictionary_may_hold_null_repeats_and_what_no_row_has(index, dictionary):
    array = pa.DictionaryArray.from_arrays(pa.array([3, 1, None, 0], index), pa.array(dictionary))
    coded, values = coded_by(Coder(None), array)
    assert restored(coded, values) == [[dictionary[0], None, None, dictionary[0]]]
    assert values.null_count == 0
    assert len(values.unique()) == len(values)


@given(st.lists(st.sampled_from(["int8", "int64", "uint64"]).flatmap(plain_columns), min_size=2, max_size=4))
def test_what_came_before_changes_the_order_of_the_values_only(arrays):
    coder = Coder(None)
    for array in arrays:
        found, values = coded_by(coder, array)
        fresh, fresh_values = coded_by(Coder(None), array)
        assert restored(found, values) == restored(fresh, fresh_values)
        assert sorted(values.to_pylist()) == sorted(fresh_values.to_pylist())


def test_few_new_values_or_very_many_are_not_remembered(monkeypatch):
    coder = Coder(None)
    coder(pa.array(range(1000)))
    assert len(coder.known) == 1000
    coder(pa.array([*range(999), -5]))  # 1 of 1000 rows is new: not worth another hash table
    assert len(coder.known) == 1000
    (coded,), values = coded_by(coder, pa.array([-5, 3, None]))
    assert restored([coded], values) == [[-5, 3, None]]
    monkeypatch.setattr(module, "_MOST_KNOWN", 1500)
    (coded,), values = coded_by(coder, pa.array(range(5000, 6000)))
    assert len(coder.known) == 1001
    assert restored([coded], values) == [list(range(5000, 6000))]


@pytest.mark.parametrize("guessed", [0, 100_000])
@pytest.mark.parametrize("num", [0, 1, 2, 5000])
def test_known_numbers_are_found_and_others_are_not(monkeypatch, num, guessed):
    """Of 5,000 numbers in a table of 65,536 slots about 180 share one, so that a guess is wrong."""
    monkeypatch.setattr(module, "_MOST_GUESSED", guessed)
    every = np.unique(np.random.default_rng(0).integers(-(2**63), 2**63 - 1, num + 1000))
    every = np.random.default_rng(1).permutation(every)
    known, wanted = Known(every[:num]), np.r_[every, every[::-1], 0]
    place_of = {value: place for place, value in enumerate(every[:num].tolist())}
    assert known.places(wanted).tolist() == [place_of.get(value, -1) for value in wanted.tolist()]


@pytest.mark.parametrize(
    ("num", "bits"), [(0, 8), (2**7, 8), (2**7 + 1, 16), (2**15, 16), (2**15 + 1, 32), (2**20, 32)]
)
def test_codes_take_as_few_bits_as_hold_them(num, bits):
    codes = np.array([-1, max(num - 1, 0)], dtype=np.int32)
    found = narrow(codes, num)
    assert found.itemsize * 8 == bits
    assert found.tolist() == codes.tolist()


@pytest.mark.parametrize("num", [128, 129, 40_000])
def test_the_last_of_many_values_comes_back(num):
    for array in (pa.array(range(num)), pa.array([f"v{n}" for n in range(num)])):
        coded, values = coded_by(Coder(None), array)
        assert restored(coded, values) == [array.to_pylist()]


@given(st.lists(st.floats() | st.floats(width=32)))
def test_numbers_are_narrowed_only_where_nothing_is_lost(numbers):
    wide = np.array(numbers, dtype=np.float64)
    found = narrow_numbers(wide)
    assert np.array_equal(found.astype(np.float64), wide, equal_nan=True)


def test_numbers_that_32_bits_hold_take_32_bits():
    assert narrow_numbers(np.array([0.5, np.nan, np.inf, -3.0])).dtype == np.float32
    for wide in (0.1, 1e300, 2.0**24 + 1):
        assert narrow_numbers(np.array([0.5, wide])).dtype == np.float64, wide
