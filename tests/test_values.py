"""What columns can serve as; the same keys for the same values of any type; instants."""

import os
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recdistill.data.log.values import family, microseconds, plain_ids, stable_key


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [
        (pa.uint8(), "id"),
        (pa.bool_(), "id"),
        (pa.large_string(), "id"),
        (pa.dictionary(pa.int32(), pa.string()), "id"),
        (pa.large_list(pa.int64()), "ids"),
        (pa.list_(pa.float32()), "something else"),
        (pa.decimal128(5, 2), "number"),
        (pa.timestamp("ns", tz="UTC"), "time"),
        (pa.struct([("a", pa.int64())]), "something else"),
        (pa.binary(), "something else"),
    ],
)
def test_family(kind, wanted):
    assert family(kind) == wanted


@given(st.lists(st.integers(-100, 100), min_size=1))
def test_equal_whole_numbers_have_equal_keys_and_ids_in_every_type(values):
    wanted = stable_key(pa.array(values, pa.int64()))
    assert len(np.unique(wanted)) == len(set(values))
    for kind in (pa.int8(), pa.int16(), pa.int32()):
        assert (stable_key(pa.array(values, kind)) == wanted).all()
        assert plain_ids(pa.array(values, kind)).equals(pa.array(values, pa.int64()))
    assert (stable_key(pa.array(values).dictionary_encode()) == wanted).all()


@given(st.lists(st.text(max_size=4), min_size=1))
def test_equal_strings_have_equal_keys_whatever_stands_beside_them(values):
    wanted = stable_key(pa.array(values, pa.string()))
    assert len(np.unique(wanted)) == len(set(values))
    assert (stable_key(pa.array(values, pa.large_string())) == wanted).all()
    assert (stable_key(pa.array(values).dictionary_encode()) == wanted).all()
    assert (stable_key(pa.array([*values, "x"]).slice(1)) == np.r_[wanted[1:], stable_key(pa.array(["x"]))]).all()


def test_large_ids_do_not_go_through_floats():
    values = pa.array([2**53, 2**53 + 1, 2**62, 2**62 + 1, -(2**62)])
    assert len(np.unique(stable_key(values))) == 5
    assert plain_ids(values).equals(values)


def splitmix(value):
    """The finaliser of SplitMix64 (Steele et al., OOPSLA 2014), as a signed number."""
    z = value % 2**64
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
    z ^= z >> 31
    return z - 2**64 if z >= 2**63 else z


def test_keys_of_numbers_are_a_published_hash():
    """A key that changed would move every user to another history."""
    values = [0, 3, -1, 2**62 + 1]
    assert stable_key(pa.array(values)).tolist() == [splitmix(value) for value in values]


def test_keys_of_strings_are_the_same_in_every_process():
    code = (
        "import pyarrow as pa; from recdistill.data.log.values import stable_key\n"
        "print(stable_key(pa.array(['a', 'é'])).tolist())"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env=environment)
    assert other.stdout.strip() == str(stable_key(pa.array(["a", "é"])).tolist()), other.stderr


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_whole_numbers_of_a_unit_are_the_instants_of_timestamps(unit):
    moment = pa.array([1_700_000_000, 0, -5]).cast(pa.timestamp("s"))
    numbers = moment.cast(pa.timestamp(unit)).cast(pa.int64())
    assert microseconds(numbers, unit).tolist() == [1_700_000_000_000_000, 0, -5_000_000]


def test_an_instant_is_one_whatever_its_type_and_zone():
    moment = pa.array([1_700_000_000_000_123]).cast(pa.timestamp("us", tz="UTC"))
    berlin, nanoseconds = moment.cast(pa.timestamp("us", tz="Europe/Berlin")), moment.cast(pa.timestamp("ns", tz="UTC"))
    for values in (moment, berlin, nanoseconds):
        assert microseconds(values, None).tolist() == [1_700_000_000_000_123]
        assert microseconds(values, "s").tolist() == [1_700_000_000_000_123]  # a unit does not change timestamps
    assert microseconds(pa.array([2]).cast(pa.int32()).cast(pa.date32()), None).tolist() == [2 * 86_400_000_000]
