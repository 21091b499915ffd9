"""Avazu's click log of the Kaggle challenge: ten days of mobile ads.

Source: Kaggle "Click-Through Rate Prediction" (avazu-ctr-prediction.zip with train.gz; test.gz has no clicks and is not
read). Terms: Kaggle's rules of the competition.

train (or train.csv, also .gz), UTF-8, a header, commas, no quotes:
    id  click 0 or 1  hour YYMMDDHH in UTC  C1  banner_pos  site_id  site_domain  site_category  app_id  app_domain
    app_category  device_id  device_ip  device_model  device_type  device_conn_type  C14 .. C21
Hashes are 8 hexadecimal digits. id goes beyond 63 bits and is kept as a string. The time is known to the hour: rows
of one hour keep the order of the file. -1 in C20 means unknown and is kept as an id.

There is no user. `user_id` is device_id, but for a99f214a (four rows in five: devices without an id), where it is
device_ip and device_model joined by _; that is the convention of the challenge's winners, not a fact of the log.
Partitioned by day; the file is in order of time, so nothing is sorted (a file in another order would be, a day in
memory).

Not sure of: what C14 to C21 mean. C14 looks like the creative, C17 and C21 like its campaign; histories are of C14.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recdistill.data.importers.archive import Member, only
from recdistill.data.importers.lines import Chunk, Faults, Layout, read
from recdistill.data.importers.partitions import TIME, Partitions
from recdistill.data.importers.tables import Importer, Ready, small, timestamps

_HASHES = ["site_id", "site_domain", "site_category", "app_id", "app_domain", "app_category"]
_DEVICE = ["device_id", "device_ip", "device_model"]
_NUMBERS = ["device_type", "device_conn_type", *(f"C{place}" for place in range(14, 22))]
_LAYOUT = Layout(
    columns={
        "id": pa.string(),
        "click": pa.bool_(),
        "hour": pa.int64(),
        "C1": pa.int64(),
        "banner_pos": pa.int64(),
        **dict.fromkeys([*_HASHES, *_DEVICE], pa.string()),
        **dict.fromkeys(_NUMBERS, pa.int64()),
    },
    quoted=False,
)
_NO_DEVICE = "a99f214a"
_LONG_TAILS = {"site_id", "site_domain", "app_id", "app_domain", "device_model", "C14", "C17"}


def load(path: Path, found: Sequence[Member], partitions: Partitions, faults: Faults) -> Ready:
    """train.gz, train or train.csv, by itself or in the zip."""
    (train,) = only(path, found, {"train.gz or train.csv": r"train(\.csv)?"})
    for chunk in read(train, _LAYOUT, faults):
        partitions.add(_rows(chunk, faults))
    about = """
    Avazu: will this ad be clicked? Times are hours in UTC. `user_id` is a stand-in (device_id, or device_ip and
    device_model where there is none); a request is all that such a user was shown within an hour."""
    data = """
    user: user_id
    label: {column: click}
    request: {user_every: hour}
    split: {train: 0.8, valid: 0.1}"""
    names = ["C14", "C1", "banner_pos", *_HASHES, "device_model", *(n for n in _NUMBERS if n != "C14")]
    ids = "".join(f"\n    - {{column: {n}, min_count: 10}}" if n in _LONG_TAILS else f"\n    - {n}" for n in names)
    features = f"\n    ids:{ids}\n    - {{calendar: hour}}\n    history: {{item: C14, outcomes: [click], length: 30}}"
    return Ready(about=about, data=data, features=features)


def _rows(chunk: Chunk, faults: Faults) -> pa.Table:
    table = chunk.table
    joined = pc.binary_join_element_wise(table["device_ip"], table["device_model"], "_")
    user = pc.if_else(pc.equal(table["device_id"], _NO_DEVICE), joined, table["device_id"])
    table = table.set_column(table.column_names.index("hour"), TIME, _times(chunk, faults))
    return small(table.add_column(0, "user_id", user), ["click"])


def _times(chunk: Chunk, faults: Faults) -> pa.Array:
    hours, places = np.unique(chunk.table["hour"].to_numpy(), return_inverse=True)
    time = np.zeros(len(hours), dtype=np.int64)
    for number, hour in enumerate(hours.tolist()):
        try:
            instant = datetime.strptime(f"{hour:08}", "%y%m%d%H").replace(tzinfo=UTC)
            time[number] = round(instant.timestamp()) * 1_000_000
        except ValueError:
            for row in np.flatnonzero(places == number).tolist():
                faults.add(chunk.where, chunk.first_line + row, wanted="hour: YYMMDDHH", found=str(hour))
    return timestamps(time[places])


IMPORTER = Importer(name="avazu", length="day", load=load)
