"""Criteo's display advertising logs: the Kaggle challenge's week and the 24 days of the terabyte log.

Sources: Kaggle "Display Advertising Challenge" (dac.tar.gz: train.txt, test.txt, readme.txt, license.txt) and "Criteo
1TB Click Logs" (day_0.gz to day_23.gz). Terms: Kaggle's log for non-commercial research under its license.txt; the
terabyte log CC BY-NC-SA 4.0.

Both: no header, no quotes, UTF-8, 40 fields parted by tabs:
    label  0 or 1    I1..I13  whole numbers, some below 0    C1..C26  hashes, 8 hexadecimal digits    empty = null
test.txt has no label and is not read. The files tell neither time nor user, only that their rows are in order of time.
What is invented is marked as such in the config:
    timestamp  Kaggle: the place in the file spread over 7 days from 2000-01-01. Terabyte: day_N is 2000-01-01 plus
               N days, and within it row k is k * 400 us after midnight (the day's last instant at most). Only the
               order (and the terabyte's day) is real.
    row        the row's number, from 0: it stands for the user and the request that are unknown. In the terabyte log it
               is N * 10**9 + k.
Kaggle's rows are counted first, so its file is read twice. Rows come in order: nothing is sorted, a day need not fit
into memory, and on disk the import takes one day (Kaggle: the whole) twice for a while.

Not sure of: whether the terabyte's days are in order of time within, whether Kaggle's 7 days have equal numbers of rows
(the spread says so), and whether negatives were sampled alike in both (they were sampled: rates of clicks are not those
of the street).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from recdistill.data.importers.archive import Member, matching, missing, only
from recdistill.data.importers.lines import Chunk, Faults, Layout, count_lines, read
from recdistill.data.importers.partitions import TIME, Partitions
from recdistill.data.importers.tables import INVENTED_START, Importer, Ready, dense, small, spread, timestamps
from recdistill.problems import BadInput, problem

_NUMBERS = [f"I{place}" for place in range(1, 14)]
_HASHES = [f"C{place}" for place in range(1, 27)]
_LAYOUT = Layout(
    columns={"label": pa.bool_(), **dict.fromkeys(_NUMBERS, pa.int64()), **dict.fromkeys(_HASHES, pa.string())},
    required=frozenset({"label"}),
    header=False,
    delimiter="\t",
    quoted=False,
)
_KAGGLE_DAYS = 7
_DAY_US = 86_400_000_000
_ROW_US = 400
_ROWS_PER_DAY = 10**9  # in the column `row`


def load_kaggle(path: Path, found: Sequence[Member], partitions: Partitions, faults: Faults) -> Ready:
    """train.txt, by itself or in dac.tar.gz."""
    (train,) = only(path, found, {"train.txt": r"train\.txt"})
    total = count_lines(train)
    for chunk in read(train, _LAYOUT, faults):
        first, count = chunk.first_line - 1, chunk.table.num_rows
        _add(chunk, first, spread(first, count, total, _KAGGLE_DAYS), partitions)
    about = """
    Criteo Kaggle: will this ad be clicked? Neither time nor user are in the log. INVENTED: `timestamp` is the
    position in the file spread over 7 days from 2000-01-01, and only its order is real; `row` is the row's number and
    stands for user and request, so that GAUC and NDCG, which compare a user's rows, say nothing here. There is no
    history."""
    return _ready(about, partitions)


def load_terabyte(path: Path, found: Sequence[Member], partitions: Partitions, faults: Faults) -> Ready:
    """Those of day_0 to day_23 that are there, each as it is or as .gz."""
    days = {int(member.name.removeprefix("day_")): member for member in matching(found, r"day_(\d|1\d|2[0-3])")}
    if not days:
        raise BadInput(missing(path, found, "files day_0 to day_23, with .gz or without"))
    more = [member.where for member in matching(found, r"day_\d+") if member not in days.values()]
    if more:
        found_too, remedy = f"also {', '.join(more)}", "keep one file a day"
        raise BadInput(problem(str(path), wanted="each of day_0 to day_23 once", found=found_too, remedy=remedy))
    for day in sorted(days):
        midnight = INVENTED_START.astype(np.int64) + day * _DAY_US
        for chunk in read(days[day], _LAYOUT, faults):
            place = np.arange(chunk.first_line - 1, chunk.first_line - 1 + chunk.table.num_rows)
            time = timestamps(midnight + np.minimum(place * _ROW_US, _DAY_US - 1))
            _add(chunk, day * _ROWS_PER_DAY + chunk.first_line - 1, time, partitions)
        partitions.close()
    about = """
    Criteo terabyte: will this ad be clicked? Neither time nor user are in the log, only a file per day. INVENTED:
    day_0 is 2000-01-01, and within a day `timestamp` is the position in the file: only days and order are real; `row`
    is the row's number and stands for user and request, so that GAUC and NDCG, which compare a user's rows, say
    nothing here. There is no history."""
    return _ready(about, partitions)


def _add(chunk: Chunk, first: int, time: pa.Array, partitions: Partitions) -> None:
    row = pa.array(np.arange(first, first + chunk.table.num_rows))
    table = small(chunk.table, ["label"]).add_column(0, TIME, time).add_column(0, "row", row)
    partitions.add(table)


def _ready(about: str, partitions: Partitions) -> Ready:
    data = """
    user: row
    label: {column: label}
    request: {column: row}
    split: {train: 0.8, valid: 0.1}"""
    ids = "".join(f"\n    - {{column: {name}, min_count: 10, max_rows: 1000000}}" for name in _HASHES)
    return Ready(about=about, data=data, features=f"\n    ids:{ids}\n    dense:{dense(_NUMBERS, partitions)}")


KAGGLE = Importer(name="criteo-kaggle", length="day", load=load_kaggle)
TERABYTE = Importer(name="criteo-terabyte", length="day", load=load_terabyte)
