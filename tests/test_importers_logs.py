"""Each importer but MovieLens's on a small log of the published layout, value by value."""

import gzip

import pytest
from test_importers import problems_of, rows, tarred, unpacked, zipped

from recdistill.config.load import load
from recdistill.data.importers.find import CONFIG, IMPORTERS, import_log

CLICK = "\t".join(["1", "1", "-1", "", *(str(n) for n in range(10)), "68fd1e64", "", *["a0b1c2d3"] * 24])
LOOK = "\t".join(["0", "", "3", *(str(n) for n in range(11)), *["0f0f0f0f"] * 26])
CRITEO = {"dac/train.txt": f"{CLICK}\n{LOOK}\n".encode() * 7, "dac/test.txt": b"no labels", "dac/readme.txt": b"text"}
TERABYTE = {"day_0.gz": gzip.compress(f"{CLICK}\n{LOOK}\n".encode()), "day_10": f"{LOOK}\n".encode()}
AVAZU_HEADER = (
    "id,click,hour,C1,banner_pos,site_id,site_domain,site_category,app_id,app_domain,app_category,device_id,device_ip,"
    "device_model,device_type,device_conn_type,C14,C15,C16,C17,C18,C19,C20,C21\n"
)
AVAZU_ROWS = (
    "10000169349117863715,0,14102100,1005,0,1fbe01fe,f3845767,28905ebd,ecad2386,7801e8d9,07d7df22,a99f214a,96809ac8,"
    "711ee120,1,0,15704,320,50,1722,0,35,100084,79\n"
    "1000009418151094273,1,14103023,1005,1,1fbe01fe,f3845767,28905ebd,ecad2386,7801e8d9,07d7df22,c357dbff,ddd2926e,"
    "44956a24,1,2,15706,320,50,1722,0,35,-1,79\n"
)
AVAZU = {"train.gz": gzip.compress((AVAZU_HEADER + AVAZU_ROWS).encode()), "test.gz": gzip.compress(b"id,hour\n")}
KUAIRAND_LOG = (
    "user_id,video_id,date,hourmin,time_ms,is_click,is_like,is_follow,is_comment,is_forward,is_hate,long_view,"
    "play_time_ms,duration_ms,profile_stay_time,comment_stay_time,is_profile_enter,is_rand,tab\n"
)
KUAIRAND_USERS = "user_id,user_active_degree,is_lowactive_period,is_live_streamer,is_video_author,follow_user_num,"
KUAIRAND_USERS += "follow_user_num_range,fans_user_num,fans_user_num_range,friend_user_num,friend_user_num_range,"
KUAIRAND_USERS += "register_days,register_days_range," + ",".join(f"onehot_feat{n}" for n in range(18)) + "\n"
KUAIRAND_VIDEOS = "video_id,author_id,video_type,upload_dt,upload_type,visible_status,video_duration,server_width,"
KUAIRAND_VIDEOS += "server_height,music_id,music_type,tag\n"
KUAIRAND = {
    f"KuaiRand-Pure/data/{name}": text.encode()
    for name, text in {
        "log_standard_4_08_to_4_21_pure.csv": KUAIRAND_LOG
        + "3,1071,20220409,400,1649448000123,1,0,0,0,0,0,1,175045,87433,0,0,0,0,1\n"
        + "3,5,20220408,1600,1649408076860,0,0,0,0,0,0,0,0,8000,0,0,0,0,1\n",
        "log_standard_4_22_to_5_08_pure.csv": KUAIRAND_LOG,
        "log_random_4_22_to_5_08_pure.csv": KUAIRAND_LOG
        + "4,1071,20220422,900,1650589200000,0,1,0,0,0,0,0,10,87433,0,0,0,1,0\n",
        "user_features_pure.csv": KUAIRAND_USERS
        + '3,full_active,0,0,1,5,"(0,10]",312,"[100,1k)",0,0,3624,730+,'
        + ",".join(["1"] * 4 + ["2.0", ""] + ["0"] * 12)
        + "\n",
        "video_features_basic_pure.csv": KUAIRAND_VIDEOS
        + '1071,441,NORMAL,2020-07-08,ShortImport,1,17200.0,720,1280,989206467,4.0,"12,65"\n'
        + "5,442,AD,2020-07-08,LongImport,1,,720,1280,,,\n",
        "video_features_statistic_pure.csv": "video_id,counts\n",
    }.items()
}
ADS = {
    "raw_sample.csv": b"user,time_stamp,adgroup_id,pid,nonclk,clk\n581738,1494137644,1,430548_1007,1,0\n"
    b"449818,1494000000,2,430539_1007,0,1\n",
    "ad_feature.csv": b"adgroup_id,cate_id,campaign_id,customer,brand,price\n1,6406,83237,1,95471,170.0\n"
    b"2,6407,83238,2,NULL,199.5\n",
    "user_profile.csv": b"userid,cms_segid,cms_group_id,final_gender_code,age_level,pvalue_level,shopping_level,"
    b"occupation,new_user_class_level \n581738,0,5,2,5,,3,0,3\n",
}
BEHAVIOUR = {
    "UserBehavior.csv": b"1,2268318,2520377,pv,1511544070\n1,2333346,2520771,buy,1511561733\n"
    b"9,2268318,2520377,fav,-2134949234\n"
}
KEY = "bacff91692951881"


def feature(*triples):
    return "\x01".join(f"{field}\x02{id}\x03{value}" for field, id, value in triples)


ITEM = [("205", 4174018, 1.0), ("206", 8316799, 1.0), ("210", 1, 1.0), ("210", 2, 1.0), ("508", 9, 2.30259)]
PERSON = [("101", 31319, 1.0), ("121", 3438769, 1.0), ("109_14", 1, 2.5), ("109_14", 2, 1.1), ("129", 3864888, 1.0)]
CCP = {
    "sample_skeleton_train.csv": (
        f"1,1,0,{KEY},{len(ITEM)},{feature(*ITEM)}\n2,0,0,{KEY},1,{feature(('301', 9351665, 1.0))}\n"
    ).encode(),
    "common_features_train.csv": f"{KEY},{len(PERSON)},{feature(*PERSON)}\n".encode(),
}


def imported(name, path, tmp_path):
    out = tmp_path / "out"
    count = import_log(name, path, out)
    found = rows(out)
    assert len(found) == count
    return [(partition, row) for partition, _, row in found]


@pytest.mark.parametrize("pack", [unpacked, tarred, zipped])
def test_criteo_kaggle(tmp_path, pack):
    found = imported("criteo-kaggle", pack(tmp_path / "dac.tar.gz", CRITEO), tmp_path)
    assert [row["row"] for _, row in found] == list(range(14))
    assert [row["label"] for _, row in found] == [1, 0] * 7
    assert [day for day, _ in found[::2]] == [f"day=2000-01-0{n}" for n in range(1, 8)]
    assert found[1][1]["timestamp"].isoformat() == "2000-01-01T12:00:00+00:00"
    click, look = found[0][1], found[1][1]
    assert (click["I1"], click["I2"], click["I3"], click["I4"], click["I13"]) == (1, -1, None, 0, 9)
    assert (click["C1"], click["C2"], click["C26"]) == ("68fd1e64", None, "a0b1c2d3")
    assert (look["I1"], look["I2"], look["I3"], look["C26"]) == (None, 3, 0, "0f0f0f0f")
    text = (tmp_path / "out" / CONFIG).read_text()
    assert "only its order is real" in " ".join(text.replace("\n#", "").split())
    assert {
        s.column: s.transform for s in load(tmp_path / "out" / CONFIG).features.dense if s.column in ("I1", "I2")
    } == {
        "I1": "log1p",
        "I2": "standardise",  # it is below 0 in a row
    }


def test_criteo_terabyte(tmp_path):
    found = imported("criteo-terabyte", unpacked(tmp_path / "days", TERABYTE), tmp_path)
    days = ["day=2000-01-01", "day=2000-01-01", "day=2000-01-11"]
    assert [(day, row["row"]) for day, row in found] == list(zip(days, [0, 1, 10**10], strict=True))
    assert found[1][1]["timestamp"].isoformat() == "2000-01-01T00:00:00.000400+00:00"
    (line,) = problems_of(
        "criteo-terabyte", unpacked(tmp_path / "days", {"day_10.gz": TERABYTE["day_0.gz"]}), tmp_path / "o"
    )
    assert "wanted each of day_0 to day_23 once, found also " in line


def test_criteo_tells_the_malformed(tmp_path):
    bad = f"{LOOK}\n2{LOOK[1:]}\n{LOOK}\textra\n\n{LOOK.replace('10', '1x')}\n"
    found = problems_of("criteo-kaggle", unpacked(tmp_path / "s", {"train.txt": bad.encode()}), tmp_path / "out")
    wanted = [
        "2: wanted label: 0 or 1, found '2'",
        "3: wanted 40 fields",
        "4: wanted 40 fields",
        "5: wanted I13: a whole",
    ]
    assert len(found) == len(wanted)
    for line, part in zip(found, wanted, strict=True):
        assert f"train.txt: line {part}" in line


@pytest.mark.parametrize("pack", [unpacked, zipped])
def test_avazu(tmp_path, pack):
    (first, anonymous), (last, known) = imported("avazu", pack(tmp_path / "avazu-ctr-prediction.zip", AVAZU), tmp_path)
    assert (first, last) == ("day=2014-10-21", "day=2014-10-30")
    assert (anonymous["timestamp"].isoformat(), known["timestamp"].hour) == ("2014-10-21T00:00:00+00:00", 23)
    assert (anonymous["user_id"], known["user_id"]) == ("96809ac8_711ee120", "c357dbff")
    assert (anonymous["id"], anonymous["click"], known["click"]) == ("10000169349117863715", 0, 1)
    assert (known["C1"], known["banner_pos"], known["site_id"], known["C20"], known["C21"]) == (
        1005,
        1,
        "1fbe01fe",
        -1,
        79,
    )
    assert "hour" not in known


def test_avazu_tells_an_hour_that_is_none(tmp_path):
    bad = {"train.csv": (AVAZU_HEADER + AVAZU_ROWS.replace("14103023", "14103024")).encode()}
    (line,) = problems_of("avazu", unpacked(tmp_path / "s", bad), tmp_path / "out")
    assert line.endswith("train.csv: line 3: wanted hour: YYMMDDHH, found 14103024; mend or drop the line")


@pytest.mark.parametrize("pack", [unpacked, tarred])
def test_kuairand(tmp_path, pack):
    found = imported("kuairand", pack(tmp_path / "KuaiRand-Pure.tar.gz", KUAIRAND), tmp_path)
    assert [day for day, _ in found] == ["day=2022-04-08", "day=2022-04-08", "day=2022-04-22"]
    early, late, unknown = (row for _, row in found)
    assert (early["video_id"], late["video_id"], late["timestamp"].microsecond) == (5, 1071, 123_000)
    assert (late["is_click"], late["long_view"], late["is_rand"], late["tab"]) == (1, 1, 0, 1)
    assert (late["duration_ms"], late["play_time_ms"], late["author_id"], late["tags"]) == (
        87433,
        175045,
        441,
        ["12", "65"],
    )
    assert (late["user_active_degree"], late["follow_user_num_range"]) == ("full_active", "(0,10]")
    assert (late["onehot_feat4"], late["onehot_feat5"], late["fans_user_num"]) == ("2.0", None, 312)
    assert (early["tags"], early["music_type"], early["video_type"]) == ([], None, "AD")
    assert (unknown["is_rand"], unknown["user_active_degree"], unknown["register_days"]) == (1, None, None)


@pytest.mark.parametrize("shape", ["folder", "archives"])
def test_taobao_ads(tmp_path, shape):
    folder = tmp_path / "ads"
    folder.mkdir()
    for name, data in ADS.items():
        unpacked(folder, {name: data}) if shape == "folder" else tarred(folder / f"{name}.tar.gz", {name: data})
    (first, early), (second, late) = imported("taobao", folder, tmp_path)
    assert (first, second) == ("day=2017-05-05", "day=2017-05-07")
    assert (late["user"], late["adgroup_id"], late["pid"], late["clk"]) == (581738, 1, "430548_1007", 0)
    assert late["timestamp"].isoformat() == "2017-05-07T06:14:04+00:00"
    assert (late["brand"], late["price"], late["pvalue_level"], late["new_user_class_level"]) == (95471, 170.0, None, 3)
    assert (early["clk"], early["brand"], early["price"], early["age_level"]) == (1, None, 199.5, None)
    assert "nonclk" not in early


def test_taobao_tells_clicks_that_contradict(tmp_path):
    bad = {**ADS, "raw_sample.csv": ADS["raw_sample.csv"].replace(b",0,1\n", b",1,1\n")}
    (line,) = problems_of("taobao", unpacked(tmp_path / "s", bad), tmp_path / "out")
    assert "raw_sample.csv: line 3: wanted nonclk = 1 - clk, found 1 in both" in line


def test_taobao_behaviour(tmp_path):
    found = imported("taobao", zipped(tmp_path / "UserBehavior.csv.zip", BEHAVIOUR), tmp_path)
    assert [day for day, _ in found] == ["day=1902-05-07", "day=2017-11-24", "day=2017-11-24"]
    stray, look, bought = (row for _, row in found)
    assert (stray["behaviour"], stray["engaged"], look["engaged"], bought["engaged"]) == ("fav", 1, 0, 1)
    assert (bought["user_id"], bought["item_id"], bought["category_id"]) == (1, 2333346, 2520771)
    run = load(tmp_path / "out" / CONFIG)
    assert stray["timestamp"] < run.data.start <= look["timestamp"] < run.data.end
    bad = {"UserBehavior.csv": BEHAVIOUR["UserBehavior.csv"].replace(b"fav", b"like")}
    (line,) = problems_of("taobao", unpacked(tmp_path / "s", bad), tmp_path / "o")
    assert "line 3: wanted behaviour: pv, buy, cart or fav, found 'like'" in line


def test_taobao_wants_one_log(tmp_path):
    both = unpacked(tmp_path / "both", {**ADS, **BEHAVIOUR})
    assert "wanted one log, found raw_sample.csv and UserBehavior.csv" in problems_of("taobao", both, tmp_path / "o")[0]


@pytest.mark.parametrize("pack", [unpacked, tarred])
def test_ali_ccp(tmp_path, pack):
    (first, click), (last, look) = imported("ali-ccp", pack(tmp_path / "sample_train.tar.gz", CCP), tmp_path)
    assert (first, last) == ("day=2000-01-01", "day=2000-01-06")
    assert (click["click"], click["purchase"], look["click"], click["sample_id"]) == (1, 0, 0, 1)
    assert (click["f205"], click["f206"], click["f207"], click["f508"]) == (4174018, 8316799, None, 9)
    assert (click["f210"], click["f853"], look["f210"]) == ([1, 2], [], [])
    assert (look["f205"], look["f301"]) == (None, 9351665)
    for row in (click, look):
        assert (row["f101"], row["f121"], row["f122"], row["f129"]) == (31319, 3438769, None, 3864888)
        assert row["common_feature_index"] == KEY


@pytest.mark.parametrize(
    ("before", "after", "wanted"),
    [
        ("206\x028316799", "206\x02x", r"line 1: wanted features FIELD \x02 whole number \x03 number"),
        ("206\x028316799\x031.0", "206\x028316799", "line 1: wanted features FIELD"),
        ("\x03", "\x03\x01", "line 1: wanted 5 features, as the line says, found 10"),
        ("206", "205", "line 1: wanted field 205 once, found it twice"),
        (f"2,0,0,{KEY}", "2,0,0,ffff", "line 2: wanted a common_feature_index that common_features_train.csv gives"),
        ("1,1,0", "1,1,2", "line 1: wanted purchase: 0 or 1, found '2'"),
    ],
)
def test_ali_ccp_tells_the_malformed(tmp_path, before, after, wanted):
    text = CCP["sample_skeleton_train.csv"].decode()
    assert before in text
    bad = {**CCP, "sample_skeleton_train.csv": text.replace(before, after).encode()}
    found = problems_of("ali-ccp", unpacked(tmp_path / "s", bad), tmp_path / "out")
    assert f"sample_skeleton_train.csv: {wanted}" in found[0]


SMALL = {
    "criteo-kaggle": CRITEO,
    "criteo-terabyte": TERABYTE,
    "avazu": AVAZU,
    "kuairand": KUAIRAND,
    "taobao": ADS,
    "ali-ccp": CCP,
}


@pytest.mark.parametrize("name", SMALL)
def test_every_config_names_columns_that_are_there(tmp_path, name):
    assert {*SMALL, "movielens"} == set(IMPORTERS)
    (_, row), *_ = imported(name, unpacked(tmp_path / "s", SMALL[name]), tmp_path)
    run = load(tmp_path / "out" / CONFIG)
    features = run.features
    named = [column for spec in features.ids for column in spec.columns] + [spec.column for spec in features.dense]
    named += [run.data.time, run.data.user, run.data.label.column, run.data.request.column or run.data.user]
    named += [features.history.item, *features.history.outcomes] if features.history else []
    assert set(named) <= set(row)
    assert run.data.label.column not in [column for spec in features.ids for column in spec.columns]
