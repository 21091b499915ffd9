"""What the bundle knows by a key: filled in by key, absent for others, never in place of what the request says."""

import pyarrow as pa
import pytest
from conftest import the_line

from recdistill.data.served import Served, open_served, save_served
from recdistill.problems import BadInput

LISTS = pa.array([["a", "b"], [], ["c"]], pa.list_(pa.string()))
BY_NUMBER = Served(key="item", table=pa.table({"key": [3, 8, 2**62], "price": [0.5, None, 2.5], "genres": LISTS}))
BY_TEXT = Served(key="item", table=pa.table({"key": ["", "a", "b"], "price": [0.5, None, 2.5]}))


def test_columns_are_filled_in_by_key_and_null_where_it_is_not_known():
    rows = BY_NUMBER.fill(pa.table({"item": [8, 2**62, 99, None, 3, 3]}))
    assert rows.column("price").to_pylist() == [None, 2.5, None, None, 0.5, 0.5]
    assert rows.column("genres").to_pylist() == [[], ["c"], None, None, ["a", "b"], ["a", "b"]]
    assert rows.column("genres").type == pa.list_(pa.string())
    assert rows.column("item").to_pylist() == [8, 2**62, 99, None, 3, 3]


def test_what_the_request_says_stays():
    rows = pa.table({"price": [7.0, None], "item": [3, 2**62], "other": ["x", "y"]})
    filled = BY_NUMBER.fill(rows)
    assert filled.select(rows.schema.names).equals(rows)
    assert filled.column("genres").to_pylist() == [["a", "b"], ["c"]]


@pytest.mark.parametrize("kind", [pa.int8(), pa.int32(), pa.uint64()])
def test_a_key_of_any_whole_number_is_found(kind):
    keys = pa.array([3, None, 8], kind)
    for array in (keys, keys.dictionary_encode(), pa.chunked_array([keys.slice(0, 1), keys.slice(1)])):
        assert BY_NUMBER.fill(pa.table({"item": array})).column("genres").to_pylist() == [["a", "b"], None, []]


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())])
def test_a_key_of_any_text_is_found(kind):
    rows = BY_TEXT.fill(pa.table({"item": pa.array(["b", None, "", "z"]).cast(kind)}))
    assert rows.column("price").to_pylist() == [2.5, None, 0.5, None]


@pytest.mark.parametrize("served", [BY_NUMBER, BY_TEXT])
def test_a_request_without_any_key_or_row_is_filled_with_nulls(served):
    assert served.fill(pa.table({"item": [None, None]})).column("price").to_pylist() == [None, None]
    empty = served.fill(pa.table({"item": pa.array([], served.table.schema.field("key").type)}))
    assert empty.num_rows == 0
    assert set(served.names) < set(empty.schema.names)


@pytest.mark.parametrize(("served", "keys"), [(BY_NUMBER, ["3"]), (BY_TEXT, [3])])
def test_a_key_of_another_type_is_one_clear_line(served, keys):
    with pytest.raises(BadInput) as caught:
        served.fill(pa.table({"item": keys}))
    the_line(caught.value.problems, "column item", "fitted on")


def test_a_request_without_the_key_is_told():
    with pytest.raises(BadInput) as caught:
        BY_NUMBER.fill(pa.table({"user": [1]}))
    the_line(caught.value.problems, "wanted column item", "there are user")


@pytest.mark.parametrize("served", [BY_NUMBER, BY_TEXT])
def test_a_table_survives_saving(served, tmp_path):
    again = open_served("item", save_served(served, tmp_path, "00"), tmp_path)
    assert again.table.equals(served.table)
    assert (again.key, again.names, again.digest) == (served.key, served.names, served.digest)


def test_the_digest_is_of_the_values_not_of_their_chunks():
    table = BY_NUMBER.table
    chunked = Served(key="item", table=pa.concat_tables([table.slice(0, 1), table.slice(1)]))
    assert chunked.digest == BY_NUMBER.digest
    assert Served(key="item", table=table.slice(0, 2)).digest != BY_NUMBER.digest


def test_a_damaged_table_is_refused(tmp_path):
    about = save_served(BY_NUMBER, tmp_path, "03")
    path = tmp_path / about["file"]
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 2] ^= 1
    path.write_bytes(whole)
    with pytest.raises(BadInput) as caught:
        open_served("item", about, tmp_path)
    the_line(caught.value.problems, str(path), "found another")
