"""Point-in-time histories against pandas, whatever the order and the number of buckets; and leaks that are planted."""

import numpy as np
import pandas as pd
import pytest

from recdistill.data import history
from recdistill.data.history import HistoryWriter, check_point_in_time
from recdistill.problems import BadInput

SIZES = {0: 60, 1: 25, 2: 15}  # rows per window
NUM_ROWS = 60 + 25 + 15


def random_log(seed, num_rows=NUM_ROWS):
    """Rows of few users and few instants, so that ties abound; the last column is an id that tells rows apart."""
    generator = np.random.default_rng(seed)
    log = pd.DataFrame(
        {
            "user": generator.integers(-3, 4, num_rows) * 2**60,
            "time": generator.integers(0, 25, num_rows),
            "row_id": np.arange(num_rows),
            "split": generator.permutation(np.repeat(list(SIZES), list(SIZES.values()))),
        }
    )
    log["place"] = log.groupby("split").cumcount()
    log["item"] = (log.row_id + 100).astype(np.int32)
    return log


def write(folder, log, chunks=3, splits=(0, 1, 2)):
    """(pointer by split, events by name) of the log, given in chunks."""
    writer = HistoryWriter(folder, ["item"], len(log))
    for part in np.array_split(np.arange(len(log)), chunks):
        rows = log.iloc[part]
        keys = {name: rows[name].to_numpy(np.int64) for name in ("user", "time", "row_id", "split", "place")}
        writer.add(**keys, ids={"item": rows.item.to_numpy(np.int32)})
    pointers = {split: np.full((SIZES[split], 2), -1) for split in splits}
    writer.finish(pointers)
    return pointers, {name: np.load(folder / f"{name}.npy") for name in ("item", "time", "user")}


def pasts(pointers, events, log):
    """row_id -> the items of its history in order."""
    return {
        row.row_id: events["item"][slice(*pointers[row.split][row.place])].tolist()
        for row in log.itertuples()
        if row.split in pointers and row.place >= 0
    }


def slow_pasts(log):
    """The same by comparing every row with every other."""
    return {
        row.row_id: log[(log.user == row.user) & (log.time < row.time)].sort_values(["time", "row_id"]).item.tolist()
        for row in log.itertuples()
    }


@pytest.mark.parametrize("seed", range(8))
def test_a_row_sees_its_users_events_of_earlier_instants_in_order(tmp_path, seed):
    log = random_log(seed)
    found = pasts(*write(tmp_path / "events", log), log)
    wanted = slow_pasts(log)
    assert found == wanted
    assert sum(map(len, wanted.values())) > 100
    assert [] in wanted.values()


@pytest.mark.parametrize("rows_per_bucket", [1, 7, 40])
def test_several_buckets_give_what_one_gives(tmp_path, monkeypatch, rows_per_bucket):
    log = random_log(0)
    one = pasts(*write(tmp_path / "one", log), log)
    monkeypatch.setattr(history, "ROWS_PER_BUCKET", rows_per_bucket)
    assert HistoryWriter(tmp_path / "empty", [], len(log)).num_buckets == -(-len(log) // rows_per_bucket) > 1
    assert pasts(*write(tmp_path / "several", log), log) == one
    assert sorted(path.name for path in (tmp_path / "several").iterdir()) == ["item.npy", "time.npy", "user.npy"]


def test_the_order_in_which_events_come_does_not_matter(tmp_path):
    log = random_log(1)
    mixed = log.sample(frac=1, random_state=0)
    assert pasts(*write(tmp_path / "mixed", mixed, chunks=7), mixed) == pasts(*write(tmp_path / "plain", log), log)


def test_events_count_in_every_history_whichever_windows_are_written(tmp_path):
    log = random_log(2)
    whole = pasts(*write(tmp_path / "whole", log), log)
    only_test = pasts(*write(tmp_path / "test", log, splits=(2,)), log)
    assert len(only_test) == SIZES[2]
    assert only_test == {row: past for row, past in whole.items() if row in only_test}


def test_an_event_without_a_row_is_seen_and_sees_nothing(tmp_path):
    log = random_log(3)
    log.loc[log.split == 1, "place"] = -1
    pointers, events = write(tmp_path / "events", log)
    assert (pointers[1] == -1).all()
    found, wanted = pasts(pointers, events, log), slow_pasts(log)
    assert len(found) == SIZES[0] + SIZES[2]
    assert found == {row: wanted[row] for row in found}


def check(pointers, events, log, split):
    rows = log[log.split == split].sort_values("place")
    time, user = rows.time.to_numpy(), rows.user.to_numpy()
    check_point_in_time(pointers[split], time, user, events["time"], events["user"], "the log: test")


@pytest.mark.parametrize("split", SIZES)
def test_what_was_written_is_point_in_time(tmp_path, split):
    log = random_log(4)
    check(*write(tmp_path / "events", log), log, split)


def plant(tmp_path, change):
    """The message that refuses test pointers after `change(pointer, events, users of the rows)`."""
    log = random_log(4)
    pointers, events = write(tmp_path / "events", log)
    rows = log[log.split == 2].sort_values("place")
    change(pointers[2], events, rows)
    with pytest.raises(BadInput, match="the log: test: history: wanted events strictly before each row") as caught:
        check(pointers, events, log, 2)
    return str(caught.value)


def own_instant(pointer, events, rows):
    pointer[np.flatnonzero(pointer[:, 1] > pointer[:, 0])[0], 1] += 1


def one_later_event_of_a_row_without_a_past(pointer, events, rows):
    pointer[np.flatnonzero(pointer[:, 1] == pointer[:, 0])[0], 1] += 1


def the_whole_future(pointer, events, rows):
    for place, user in enumerate(rows.user):
        pointer[place, 1] = np.flatnonzero(events["user"] == user)[-1] + 1


def an_event_of_the_user_before(pointer, events, rows):
    second = np.flatnonzero((pointer[:, 1] > pointer[:, 0]) & (pointer[:, 0] > 0))
    pointer[second[0], 0] -= 1


def another_user(pointer, events, rows):
    has = np.flatnonzero(pointer[:, 1] > pointer[:, 0])
    users = rows.user.to_numpy()
    other = next(place for place in has if users[place] != users[has[0]])
    pointer[has[0]] = pointer[other]


@pytest.mark.parametrize(
    "leak",
    [own_instant, one_later_event_of_a_row_without_a_past, the_whole_future, an_event_of_the_user_before, another_user],
)
def test_a_planted_leak_is_refused(tmp_path, leak):
    message = plant(tmp_path, leak)
    assert "prepare again" in message
    assert "0 rows that see their own time or later, 0 that see another user" not in message


def test_events_that_were_not_announced_are_our_own_fault(tmp_path):
    log = random_log(5)
    writer = HistoryWriter(tmp_path / "events", [], len(log) + 1)
    with pytest.raises(AssertionError, match="were announced"):
        writer.finish({})


def test_a_log_without_events_has_no_pasts():
    start, end = history._pasts(np.empty(0, np.int64), np.empty(0, np.int64))
    assert len(start) == len(end) == 0
