"""Ali-CCP, clicks and conversions on Taobao's front page: the train sample, joined with its users.

Source: https://tianchi.aliyun.com/dataset/408 (sample_train.tar.gz with the two files below; sample_test.tar.gz is not
read). Terms: research use under Tianchi's agreement, no redistribution; cite Ma et al., SIGIR 2018 (ESMM).

No headers, commas, no quotes:
    sample_skeleton_train.csv  sample_id,click,purchase,common_feature_index,number of features,features
    common_features_train.csv  common_feature_index (32 hexadecimal digits),number of features,features
features are FIELD \\x02 ID \\x03 VALUE, parted by \\x01. Fields of one id: 101 user, 121 122 124 to 129 profile; 205
item, 206 category, 207 shop, 216 brand; 508 509 702 user x category, shop, brand; 301 position. Fields of many: 210
intention, 853 user x intention. Columns are named f101 and so on, an id each or a list; an absent field is null or
the empty list. VALUE must be a number and is dropped (it is 1.0, but for the counts of 508, 509, 702 and 853). The
long histories of common features (109_14, 110_14, 127_14, 150_14) are skipped: a row would carry hundreds of ids.

There is no time. `timestamp` is the place in the file spread over 10 days from 2000-01-01: INVENTED, and it is not
known whether the file is in order of time at all, so that the config has no history. The file's rows are counted
first, so it is read twice. Users are held in memory (estimate: 0.3 GB). Rows keep the file's order: nothing is sorted.

Not sure of: that fields of one id never stand twice in a row (a row where one does is told as malformed).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
from numpy.typing import NDArray

from recdistill.data.importers.archive import Member, only
from recdistill.data.importers.lines import Chunk, Faults, Layout, count_lines, read
from recdistill.data.importers.partitions import TIME, Partitions
from recdistill.data.importers.tables import Importer, Ready, Side, small, spread

_SKELETON = Layout(
    columns={
        "sample_id": pa.int64(),
        "click": pa.bool_(),
        "purchase": pa.bool_(),
        "common_feature_index": pa.string(),
        "count": pa.int64(),
        "features": pa.string(),
    },
    required=frozenset({"sample_id", "click", "purchase", "common_feature_index", "count"}),
    header=False,
    quoted=False,
)
_COMMON = Layout(
    columns={"common_feature_index": pa.string(), "count": pa.int64(), "features": pa.string()},
    required=frozenset({"common_feature_index", "count"}),
    header=False,
    quoted=False,
)
_USER = ("101", "121", "122", "124", "125", "126", "127", "128", "129")
_ITEM = ("205", "206", "207", "216", "508", "509", "702", "301")
_LISTS = ("210", "853")
_DAYS = 10
_LONG_TAILS = {"205", "206", "207", "216", "508", "509", "702"}


def load(path: Path, found: Sequence[Member], partitions: Partitions, faults: Faults) -> Ready:
    """The two files of the train sample."""
    names = ["sample_skeleton_train", "common_features_train"]
    skeleton, common = only(path, found, {f"{name}.csv": rf"{name}\.csv" for name in names})
    users = Side(_users(common, faults), "common_feature_index", faults)
    total = count_lines(skeleton)
    for chunk in read(skeleton, _SKELETON, faults):
        first, count = chunk.first_line - 1, chunk.table.num_rows
        table = small(_with_fields(chunk, _ITEM, _LISTS, faults), ["click", "purchase"])
        table = table.add_column(0, TIME, spread(first, count, total, _DAYS))
        table = users.look_up(table, "common_feature_index")
        _check_users(chunk, table, faults)
        partitions.add(table)
    about = """
    Ali-CCP: will this user click this item? There is no time in the log. INVENTED: `timestamp` is the position in the
    file spread over 10 days from 2000-01-01; nothing says that the file is in order of time, so there is no history.
    The user is field 101; a request is what shares its common features. For conversions take label purchase."""
    data = """
    user: f101
    label: {column: click}
    request: {column: common_feature_index}
    split: {train: 0.8, valid: 0.1}"""
    singles = [f"{{column: f{n}, min_count: 5}}" if n in _LONG_TAILS else f"f{n}" for n in (*_ITEM, *_USER[1:])]
    ids = singles + [f"{{column: f{name}, max_values: 5, min_count: 5}}" for name in _LISTS]
    return Ready(about=about, data=data, features="\n    ids:" + "".join(f"\n    - {spec}" for spec in ids))


def _users(member: Member, faults: Faults) -> Iterator[Chunk]:
    for chunk in read(member, _COMMON, faults):
        yield Chunk(table=_with_fields(chunk, _USER, (), faults), first_line=chunk.first_line, where=chunk.where)


def _check_users(chunk: Chunk, table: pa.Table, faults: Faults) -> None:
    unknown = table["f101"].is_null().to_numpy() if "f101" in table.column_names else np.array([], dtype=bool)
    for row in np.flatnonzero(unknown).tolist():
        wanted = "a common_feature_index that common_features_train.csv gives a user (field 101)"
        index = table["common_feature_index"][row].as_py()
        faults.add(chunk.where, chunk.first_line + row, wanted=wanted, found=repr(index))


def _with_fields(chunk: Chunk, singles: Sequence[str], lists: Sequence[str], faults: Faults) -> pa.Table:
    """The chunk's rows with a column per field in place of `count` and `features`."""
    texts = pc.fill_null(chunk.table["features"].combine_chunks(), "")
    counts = _counts(texts)
    table = chunk.table.drop_columns(["count", "features"])
    told = chunk.table["count"].to_numpy()
    for place in np.flatnonzero(counts != told).tolist():
        wanted = f"{told[place]} features, as the line says"
        faults.add(chunk.where, chunk.first_line + place, wanted=wanted, found=str(counts[place]))
    flat = _flat(texts)
    if flat is None or flat.num_rows != counts.sum():
        _diagnose(chunk, texts, faults)
        counts, flat = np.zeros_like(counts), _EMPTY
    row = np.repeat(np.arange(len(counts)), counts)
    field = flat["field"]
    for name in singles:
        here = pc.equal(field, name).to_numpy()
        table = table.append_column(f"f{name}", _single(chunk, name, row[here], flat["id"].filter(here), faults))
    for name in lists:
        here = pc.equal(field, name).to_numpy()
        ends = np.cumsum(np.bincount(row[here], minlength=len(counts)))
        offsets = pa.array(np.concatenate([[0], ends]).astype(np.int32))
        values = flat["id"].filter(here).combine_chunks()
        table = table.append_column(f"f{name}", pa.ListArray.from_arrays(offsets, values))
    return table


def _single(chunk: Chunk, name: str, row: NDArray[np.int64], ids: pa.ChunkedArray, faults: Faults) -> pa.Array:
    for again in row[1:][np.diff(row) == 0].tolist():
        faults.add(chunk.where, chunk.first_line + again, wanted=f"field {name} once", found="it twice")
    values = np.zeros(chunk.table.num_rows, dtype=np.int64)
    absent = np.ones(len(values), dtype=bool)
    values[row], absent[row] = ids.to_numpy(), False
    return pa.array(values, mask=absent)


_TYPES = {"field": pa.string(), "id": pa.int64(), "value": pa.float64()}
_EMPTY = pa.schema(list(_TYPES.items())).empty_table()


def _counts(texts: pa.Array) -> NDArray[np.int64]:
    """How many features each row has."""
    parted: NDArray[np.int64] = pc.count_substring(texts, "\x01").to_numpy(False).astype(np.int64)
    return parted + (pc.binary_length(texts).to_numpy(False) > 0)


def _flat(texts: pa.Array) -> pa.Table | None:
    """field, id and value of all features of all rows, in order; None where one is malformed."""
    joined = "\x01".join(text for text in texts.to_pylist() if text)
    if not joined:
        return _EMPTY
    block = joined.translate({1: "\n", 3: "\x02"}).encode()
    try:
        return pacsv.read_csv(
            pa.BufferReader(block),
            pacsv.ReadOptions(column_names=list(_TYPES), block_size=len(block) + 1),
            pacsv.ParseOptions(delimiter="\x02", quote_char=False, ignore_empty_lines=False),
            pacsv.ConvertOptions(column_types=_TYPES, null_values=[]),
        )
    except pa.ArrowInvalid:
        return None


def _diagnose(chunk: Chunk, texts: pa.Array, faults: Faults) -> None:
    """Tell `faults` the rows with a malformed feature."""
    for place, row in enumerate(texts.to_pylist()):
        alone = _flat(pa.array([row]))
        if alone is None or alone.num_rows != _counts(pa.array([row]))[0]:
            wanted = r"features FIELD \x02 whole number \x03 number, parted by \x01"
            faults.add(chunk.where, chunk.first_line + place, wanted=wanted, found=repr(row))


IMPORTER = Importer(name="ali-ccp", length="day", load=load)
