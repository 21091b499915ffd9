"""Two logs of Taobao: display ads (Ali_Display_Ad_Click) joined with ads and users, and UserBehavior.

Sources: https://tianchi.aliyun.com/dataset/56 (raw_sample.csv.tar.gz, ad_feature.csv.tar.gz, user_profile.csv.tar.gz;
behavior_log.csv.tar.gz is not read) and https://tianchi.aliyun.com/dataset/649 (UserBehavior.csv.zip). Terms:
research use under Tianchi's agreement, no redistribution; UserBehavior CC BY-NC-SA 4.0.

Display ads, UTF-8, headers (a blank may follow a name), commas, no quotes; a null is empty or NULL:
    raw_sample.csv    user,time_stamp,adgroup_id,pid,nonclk,clk                 (seconds since 1970)
    ad_feature.csv    adgroup_id,cate_id,campaign_id,customer,brand,price
    user_profile.csv  userid,cms_segid,cms_group_id,final_gender_code,age_level,pvalue_level,shopping_level,occupation,
                      new_user_class_level
nonclk must be 1 - clk and is dropped. About one user in fifteen has no profile: nulls.
UserBehavior, no header:
    UserBehavior.csv  user,item,category,behaviour (pv, buy, cart or fav),seconds since 1970
It holds what users did, not what they were shown: there are no true negatives. `engaged` is 1 for buy, cart and fav.
Some times lie far outside its nine days (2017-11-25 to 12-03 in Beijing): they are kept, and the config's start and end
leave them out. Partitioned by UTC day; neither is in order of time, so a day is sorted, in memory.

Not sure of: whether every archive of user_profile.csv has the blank after new_user_class_level (both are taken).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recdistill.data.importers.archive import Member, matching, missing, only
from recdistill.data.importers.lines import Chunk, Faults, Layout, read
from recdistill.data.importers.partitions import Partitions
from recdistill.data.importers.tables import Importer, Ready, Side, dense, small, with_time
from recdistill.problems import BadInput, problem

_SAMPLE = Layout(
    columns={
        **dict.fromkeys(["user", "time_stamp", "adgroup_id"], pa.int64()),
        "pid": pa.string(),
        **dict.fromkeys(["nonclk", "clk"], pa.bool_()),
    },
    quoted=False,
)
_AD_IDS = ["cate_id", "campaign_id", "customer", "brand"]
_ADS = Layout(
    columns={**dict.fromkeys(["adgroup_id", *_AD_IDS], pa.int64()), "price": pa.float64()},
    required=frozenset({"adgroup_id"}),
    quoted=False,
    nulls=("", "NULL"),
)
_PROFILE = ["cms_segid", "cms_group_id", "final_gender_code", "age_level", "pvalue_level", "shopping_level"]
_PROFILE += ["occupation", "new_user_class_level"]
_USERS = Layout(
    columns=dict.fromkeys(["userid", *_PROFILE], pa.int64()),
    required=frozenset({"userid"}),
    quoted=False,
    nulls=("", "NULL"),
)
_BEHAVIOUR = Layout(
    columns={
        **dict.fromkeys(["user_id", "item_id", "category_id"], pa.int64()),
        "behaviour": pa.string(),
        "seconds": pa.int64(),
    },
    header=False,
    quoted=False,
)
_DEEDS = pa.array(["pv", "buy", "cart", "fav"])


def load(path: Path, found: Sequence[Member], partitions: Partitions, faults: Faults) -> Ready:
    """Tells the two logs apart by the names of their files."""
    ads, behaviour = matching(found, r"raw_sample\.csv"), matching(found, r"UserBehavior\.csv")
    if ads and behaviour:
        remedy = "give the folder or file of one of them"
        raise BadInput(problem(str(path), wanted="one log", found="raw_sample.csv and UserBehavior.csv", remedy=remedy))
    if behaviour:
        return _load_behaviour(path, found, partitions, faults)
    if ads:
        return _load_ads(path, found, partitions, faults)
    wanted = "raw_sample.csv, ad_feature.csv and user_profile.csv, or UserBehavior.csv"
    raise BadInput(missing(path, found, wanted))


def _load_ads(path: Path, found: Sequence[Member], partitions: Partitions, faults: Faults) -> Ready:
    names = ["raw_sample", "ad_feature", "user_profile"]
    sample, ads, users = only(path, found, {f"{name}.csv": rf"{name}\.csv" for name in names})
    ad_table = Side(read(ads, _ADS, faults), "adgroup_id", faults)
    user_table = Side(read(users, _USERS, faults), "userid", faults)
    for chunk in read(sample, _SAMPLE, faults):
        _check_clicks(chunk, faults)
        table = small(with_time(chunk, "time_stamp", "s", faults).drop_columns(["nonclk"]), ["clk"])
        partitions.add(user_table.look_up(ad_table.look_up(table, "adgroup_id"), "user"))
    about = """
    Taobao display ads: will this user click this ad? Seven days train and valid, the last test, in time; a request is
    what a user was shown within an hour. The user's id is left out: histories stand for it."""
    data = """
    user: user
    label: {column: clk}
    request: {user_every: hour}
    split: {train: 0.8, valid: 0.1}"""
    ids = [f"{{column: {name}, min_count: 5}}" for name in ("adgroup_id", *_AD_IDS)] + ["pid", *_PROFILE]
    features = "\n    ids:" + "".join(f"\n    - {spec}" for spec in ids) + f"\n    dense:{dense(['price'], partitions)}"
    features += "\n    history: {item: adgroup_id, outcomes: [clk], length: 50}"
    return Ready(about=about, data=data, features=features)


def _check_clicks(chunk: Chunk, faults: Faults) -> None:
    same = pc.equal(chunk.table["nonclk"], chunk.table["clk"]).to_numpy()
    for row in np.flatnonzero(same).tolist():
        both = chunk.table["clk"][row].as_py()
        faults.add(chunk.where, chunk.first_line + row, wanted="nonclk = 1 - clk", found=f"{int(both)} in both")


def _load_behaviour(path: Path, found: Sequence[Member], partitions: Partitions, faults: Faults) -> Ready:
    (member,) = only(path, found, {"UserBehavior.csv": r"UserBehavior\.csv"})
    for chunk in read(member, _BEHAVIOUR, faults):
        deed = chunk.table["behaviour"]
        for row in np.flatnonzero(~pc.is_in(deed, value_set=_DEEDS).to_numpy()).tolist():
            wanted = "behaviour: pv, buy, cart or fav"
            faults.add(chunk.where, chunk.first_line + row, wanted=wanted, found=repr(deed[row].as_py()))
        table = with_time(chunk, "seconds", "s", faults)
        partitions.add(table.append_column("engaged", pc.not_equal(deed, "pv").cast(pa.int8())))
    about = """
    Taobao UserBehavior: is this deed more than a look (buy, cart, fav)? The log has deeds only, nothing that was
    shown and left, so this is not a rate of clicks. start and end leave out times outside its nine days in
    Beijing."""
    data = """
    user: user_id
    label: {column: engaged}
    request: {user_every: day}
    start: 2017-11-24T16:00:00Z
    end: 2017-12-03T16:00:00Z
    split: {train: 0.8, valid: 0.1}"""
    features = """
    ids: [{column: item_id, min_count: 5}, {column: category_id, min_count: 5}, {calendar: hour}]
    history: {item: item_id, outcomes: [behaviour], length: 50}"""
    return Ready(about=about, data=data, features=features)


IMPORTER = Importer(name="taobao", length="day", load=load)
