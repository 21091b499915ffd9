"""Vocabularies, hashes and bins: 0 for null, 1 for unknown, then the rest; the same elsewhere and once saved."""

import subprocess
import sys
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from conftest import the_line
from hypothesis import given
from hypothesis import strategies as st

from recdistill.data.log.values import plain_ids
from recdistill.data.tables import Bins, Hashed, Vocabulary, arrow_digest, open_table, splitmix
from recdistill.problems import BadInput
from recdistill.types import FIRST_KNOWN

# Known values, and one that is not among them, of every type that an id may have.
IDS = {
    "int64": (pa.array([7, -3, 2**40, -(2**63), 2**63 - 1, 0]), 5),
    "int8": (pa.array([-128, 127], pa.int8()), 3),
    "uint64": (pa.array([2**63, 2**64 - 1, 1], pa.uint64()), 2**63 + 1),
    "string": (pa.array(["b", "a", "", "ä\N{SNOWMAN}", " a"]), "A"),
    "large_string": (pa.array(["b", "a"], pa.large_string()), "c"),
    "dictionary": (pa.array(["b", "a"]).dictionary_encode(), "c"),
    "bool": (pa.array([True]), False),
    "decimal": (pa.array([Decimal("1.50"), Decimal("-2.00")]), Decimal("1.51")),
    "double": (pa.array([1.5, -2.25]), 1.25),
}


def vocabulary(known):
    return Vocabulary(name="x", values=plain_ids(known))


@pytest.mark.parametrize("kind", IDS)
def test_known_values_number_upwards_in_order_unknown_is_1_and_null_is_0(kind):
    known, stranger = IDS[kind]
    num = len(known)
    values = pa.array([None, *known.to_pylist()[::-1], stranger, None], type=known.type)
    expected = [0, *range(FIRST_KNOWN + num - 1, FIRST_KNOWN - 1, -1), 1, 0]
    found = vocabulary(known).ids(values)
    assert found.tolist() == expected
    assert found.dtype == np.int32
    assert vocabulary(known).num_rows == 2 + num


@given(st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(-3, 3), unique=True), st.data())
def test_ids_are_those_of_a_plain_dictionary(known, data):
    values = data.draw(st.lists(st.sampled_from([*known, None]) | st.integers(-5, 5)))
    ids_of = {None: 0} | {value: FIRST_KNOWN + place for place, value in enumerate(known)}
    for kind, change in ((pa.int64(), lambda value: value), (pa.string(), lambda v: None if v is None else str(v))):
        table = vocabulary(pa.array([change(value) for value in known], type=kind))
        found = table.ids(pa.array([change(value) for value in values], type=kind))
        assert found.tolist() == [ids_of.get(value, 1) for value in values]


def test_integers_of_any_width_are_the_same_ids():
    table = vocabulary(pa.array([200, 7]))
    for kind in (pa.uint8(), pa.int16(), pa.int32(), pa.uint32(), pa.int64(), pa.uint64()):
        assert table.ids(pa.array([7, None, 200, 8], kind)).tolist() == [3, 0, 2, 1], kind


def test_a_null_that_a_dictionary_holds_is_a_null():
    values = pa.DictionaryArray.from_arrays(pa.array([0, 1, None, 2]), pa.array(["a", None, "b"]))
    assert vocabulary(pa.array(["b", "a"])).ids(values).tolist() == [3, 0, 0, 2]
    found = Hashed(name="x", buckets=1000, salt=4).ids(values)
    assert found.tolist() == Hashed(name="x", buckets=1000, salt=4).ids(pa.array(["a", None, None, "b"])).tolist()


def test_a_column_without_a_type_is_absent_everywhere():
    for table in (vocabulary(pa.array(["a"])), vocabulary(pa.array([1])), Hashed(name="x", buckets=3, salt=0)):
        assert table.ids(pa.nulls(2)).tolist() == [0, 0]


def test_no_rows_have_no_ids():
    for table in (vocabulary(pa.array([1])), Hashed(name="x", buckets=3, salt=0), Bins(name="x", edges=(1.0,))):
        found = table.ids(pa.array([], pa.int64()))
        assert (found.dtype, len(found)) == (np.int32, 0)


@pytest.mark.parametrize(("known", "given"), [([1], ["1"]), (["1"], [1]), ([1], [1.0])])
def test_values_of_another_type_are_one_clear_line(known, given):
    with pytest.raises(BadInput) as caught:
        vocabulary(pa.array(known)).ids(pa.array(given))
    the_line(caught.value.problems, "column x", str(pa.array(known).type), str(pa.array(given).type))


def test_hashes_are_the_same_in_another_process():
    columns = [[1, -1, 2**40], ["a", "", "ä"], [0.5]]
    code = f"""if True:
        import pyarrow as pa
        from recdistill.data.tables import Hashed
        table = Hashed(name="x", buckets=97, salt=5)
        print([table.ids(pa.array(values)).tolist() for values in {columns!r}])"""
    command = [sys.executable, "-c", code]
    found = subprocess.run(command, capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": "77"})
    table = Hashed(name="x", buckets=97, salt=5)
    assert found.stdout.strip() == str([table.ids(pa.array(values)).tolist() for values in columns])


@given(st.lists(st.none() | st.text(max_size=3), max_size=20), st.integers(1, 9), st.integers(0, 2**64 - 1))
def test_hashes_are_in_range_and_equal_for_equal_values(values, buckets, salt):
    table = Hashed(name="x", buckets=buckets, salt=salt)
    found = table.ids(pa.array(values, pa.string()))
    assert ((found == 0) == [value is None for value in values]).all()
    assert ((found >= FIRST_KNOWN) | (found == 0)).all()
    assert (found < table.num_rows).all()
    alone = [table.ids(pa.array([value], pa.string()))[0] for value in values]
    assert found.tolist() == alone


def test_hashes_fill_their_rows_evenly_and_salts_part_what_others_join():
    values = pa.array(range(50_000))
    one, other = (Hashed(name="x", buckets=100, salt=salt).ids(values) - FIRST_KNOWN for salt in (1, 2))
    for found in (one, other):
        chi_square = ((np.bincount(found, minlength=100) - 500) ** 2 / 500).sum()
        assert chi_square < 99 + 5 * np.sqrt(2 * 99)
    assert abs((one == other).mean() - 1 / 100) < 0.005
    joined = one[:25_000] == one[25_000:]
    assert joined.sum() > 100
    assert (other[:25_000] == other[25_000:])[joined].mean() < 0.1


@given(st.lists(st.floats(-5, 5), unique=True, max_size=6), st.lists(st.none() | st.floats(-6, 6, width=16)))
def test_a_bin_counts_the_edges_up_to_a_number(edges, numbers):
    edges.sort()
    table = Bins(name="x", edges=tuple(edges))
    found = table.ids(pa.array(numbers, pa.float64()))
    assert found.tolist() == [0 if n is None else 2 + sum(edge <= n for edge in edges) for n in numbers]
    assert (found < table.num_rows).all()


def test_bins_of_any_numbers_put_nan_with_null_and_infinity_outside():
    table = Bins(name="x", edges=(0.0, 10.0))
    assert table.of_numbers(np.array([np.nan, -np.inf, np.inf, -0.0, 10.0])).tolist() == [0, 2, 4, 3, 4]
    assert table.ids(pa.array([float("nan"), 9.5])).tolist() == [0, 3]
    for kind in (pa.int8(), pa.uint64(), pa.float32(), pa.decimal128(4, 1)):
        assert table.ids(pa.array([None, 9, 10], kind)).tolist() == [0, 3, 4], kind


TABLES = [
    *(vocabulary(known) for known, _ in IDS.values()),
    vocabulary(pa.array([], pa.string())),
    Hashed(name="x", buckets=11, salt=2**64 - 1),
    Bins(name="x", edges=(0.1, 1 / 3, 1e300)),
    Bins(name="x"),
]


@pytest.mark.parametrize("table", TABLES)
def test_a_table_survives_saving(table, tmp_path):
    again = open_table("x", table.save(tmp_path, "00"), tmp_path)
    assert again == table
    assert (again.digest, again.num_rows) == (table.digest, table.num_rows)


def test_digests_differ_where_tables_do():
    changed = [vocabulary(pa.array(values)) for values in (["a", "b"], ["b", "a"], ["a"], ["ab"], [1, 2], [2, 1], [12])]
    changed += [Hashed(name="x", buckets=buckets, salt=salt) for buckets, salt in ((11, 0), (12, 0), (11, 1), (1, 11))]
    changed += [Bins(name="x", edges=edges) for edges in ((), (0.2,), (0.2, 0.3))]
    digests = [table.digest for table in changed]
    assert len(set(digests)) == len(digests)


def test_the_digest_of_a_table_does_not_depend_on_its_chunks():
    whole = pa.table({"value": [1, 2, 3]})
    assert arrow_digest(pa.concat_tables([whole.slice(0, 1), whole.slice(1)])) == arrow_digest(whole)


def test_a_damaged_vocabulary_is_refused(tmp_path):
    table = vocabulary(pa.array(["a", "b", "c"]))
    about = table.save(tmp_path, "07")
    path = tmp_path / about["file"]
    whole = path.read_bytes()
    places = range(0, len(whole), 31)
    assert len(places) > 10
    for place in places:
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        with pytest.raises(BadInput) as caught:
            open_table("x", about, tmp_path)
        the_line(caught.value.problems, str(path), "found another")
    path.write_bytes(whole)
    assert open_table("x", about, tmp_path) == table


def test_splitmix_is_a_bijection_that_mixes():
    numbers = np.arange(100_000, dtype=np.uint64)
    mixed = splitmix(numbers)
    assert len(np.unique(mixed)) == len(numbers)
    flipped = np.unpackbits((mixed ^ splitmix(numbers ^ np.uint64(1))).view(np.uint8)).mean()
    assert abs(flipped - 0.5) < 0.01
