"""KuaiRand-Pure, -1K and -27K: short videos shown by the app's policies and at random, joined with users and videos.

Source: https://kuairand.com and https://zenodo.org/records/10439422 (KuaiRand-Pure.tar.gz, KuaiRand-1K.tar.gz,
KuaiRand-27K.tar.gz). Licence: CC BY-SA 4.0; cite Gao et al., CIKM 2022.

KuaiRand-*/data/, UTF-8, headers, commas, quotes where a tag has a comma:
    log_standard_4_08_to_4_21_*.csv, log_standard_4_22_to_5_08_*.csv (27K: _part1, _part2),
    log_random_4_22_to_5_08_*.csv:
        user_id,video_id,date,hourmin,time_ms,is_click,is_like,is_follow,is_comment,is_forward,is_hate,long_view,
        play_time_ms,duration_ms,profile_stay_time,comment_stay_time,is_profile_enter,is_rand,tab
    user_features_*.csv: user_id,user_active_degree,is_lowactive_period,...,register_days_range,onehot_feat0..17
    video_features_basic_*.csv: video_id,author_id,video_type,upload_dt,upload_type,...,music_id,music_type,tag
All logs that are there become one, told apart by is_rand. time_ms are milliseconds since 1970; date and hourmin, the
same in Beijing time, are not read, nor are video_features_statistic_*.csv (averages over the whole month: they know
the future). tag (12,65) becomes a list. What may be written as 1.0 as well as 1 (onehot_feat*, music_type) is kept as
text.

Columns are found by name. Users and videos are held in memory: by estimate some hundred MB for 1K, 5 GB for 27K.
Read from a tar.gz, each file costs one pass over the archive: unpack 27K first. Partitioned by UTC day; the logs come
by user, so a day is sorted, in memory.

Not sure of: how nulls are written (empty is taken), and that author_id has no fractions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa

from recdistill.data.importers.archive import Member, matching, missing, only
from recdistill.data.importers.lines import Chunk, Faults, Layout, read
from recdistill.data.importers.partitions import Partitions
from recdistill.data.importers.tables import Importer, Ready, Side, dense, small, split_list, with_time
from recdistill.problems import BadInput

_SIGNALS = ["is_click", "is_like", "is_follow", "is_comment", "is_forward", "is_hate", "long_view"]
_FLAGS = [*_SIGNALS, "is_profile_enter", "is_rand"]
_COUNTS = ["play_time_ms", "duration_ms", "profile_stay_time", "comment_stay_time"]
_LOG = Layout(
    columns={
        **dict.fromkeys(["user_id", "video_id", "time_ms"], pa.int64()),
        **dict.fromkeys(_SIGNALS, pa.bool_()),
        **dict.fromkeys(_COUNTS, pa.int64()),
        **dict.fromkeys(["is_profile_enter", "is_rand"], pa.bool_()),
        "tab": pa.int64(),
    },
    required=frozenset({"user_id", "video_id", "time_ms", "is_click", "is_rand"}),
)
_USER_NUMBERS = ["follow_user_num", "fans_user_num", "friend_user_num", "register_days"]
_USER_TEXTS = ["user_active_degree", *(f"{n}_range" for n in _USER_NUMBERS), *(f"onehot_feat{n}" for n in range(18))]
_USERS = Layout(
    columns={
        "user_id": pa.int64(),
        **dict.fromkeys(_USER_TEXTS, pa.string()),
        **dict.fromkeys(_USER_NUMBERS, pa.float64()),
    },
    required=frozenset({"user_id"}),
)
_VIDEO_TEXTS = ["video_type", "upload_dt", "upload_type", "music_type", "tag"]
_VIDEOS = Layout(
    columns={"video_id": pa.int64(), "author_id": pa.int64(), **dict.fromkeys(_VIDEO_TEXTS, pa.string())},
    required=frozenset({"video_id"}),
)


def load(path: Path, found: Sequence[Member], partitions: Partitions, faults: Faults) -> Ready:
    """Every log_standard_*.csv and log_random_*.csv there is."""
    tables = ["user_features_", "video_features_basic_"]
    logs = matching(found, r"log_(standard|random)_.*\.csv")
    if not logs:
        raise BadInput(missing(path, found, "log_standard_*.csv or log_random_*.csv, and the features of KuaiRand"))
    users, videos = only(path, found, {f"{name}*.csv": rf"{name}.*\.csv" for name in tables})
    user_table = Side(read(users, _USERS, faults), "user_id", faults)
    video_table = Side(_videos(videos, faults), "video_id", faults)
    for log in logs:
        for chunk in read(log, _LOG, faults):
            table = small(with_time(chunk, "time_ms", "ms", faults), _FLAGS)
            partitions.add(video_table.look_up(user_table.look_up(table, "user_id"), "video_id"))
    return _ready(partitions)


def _videos(member: Member, faults: Faults) -> Iterator[Chunk]:
    for chunk in read(member, _VIDEOS, faults):
        table = chunk.table
        tags = split_list(table["tag"], ",")
        table = table.set_column(table.column_names.index("tag"), "tags", tags)
        yield Chunk(table=table, first_line=chunk.first_line, where=chunk.where)


def _ready(partitions: Partitions) -> Ready:
    about = """
    KuaiRand: will this user click (play) this video? Videos of the app's policies and, with is_rand 1, random ones; a
    request is what a user was shown within an hour. The user's id is left out, and all that is known only afterwards
    (play time, likes) but for the history."""
    data = """
    user: user_id
    label: {column: is_click}
    request: {user_every: hour}
    split: {train: 0.8, valid: 0.1}"""
    ids = ["{column: video_id, min_count: 5}", "{column: author_id, min_count: 5}", "{column: tags, max_values: 5}"]
    ids += ["tab", "video_type", "upload_type", "music_type", *_USER_TEXTS]
    numbers = dense(["duration_ms", *_USER_NUMBERS], partitions)
    features = "\n    ids:" + "".join(f"\n    - {spec}" for spec in ids) + f"\n    dense:{numbers}"
    features += "\n    history: {item: video_id, outcomes: [is_click, long_view], length: 50}"
    return Ready(about=about, data=data, features=features)


IMPORTER = Importer(name="kuairand", length="day", load=load)
