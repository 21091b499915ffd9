"""Point-in-time histories against pandas, whatever the order and the number of buckets; and leaks that are planted."""

import numpy as np
import pandas as pd
import pytest

from recdistill.data import buckets
from recdistill.data.history import HistoryWriter, check_point_in_time
from recdistill.problems import BadInput

NUM_ROWS = 100


def random_log(seed, num_rows=NUM_ROWS):
    """Rows of few users and few instants, so that ties abound; the last column is an id that tells rows apart."""
    generator = np.random.default_rng(seed)
    log = pd.DataFrame(
        {
            "user": generator.integers(-3, 4, num_rows) * 2**60,
            "time": generator.integers(0, 25, num_rows),
            "slot": np.arange(num_rows),
            "event": np.ones(num_rows, bool),
        }
    )
    log["item"] = (log.slot + 100).astype(np.int32)
    return log


def write(folder, log, chunks=3, delay=0):
    """(where each row's past begins and ends, events by name) of the log, given in chunks."""
    writer = HistoryWriter(folder, ["item"], len(log), delay)
    for part in np.array_split(np.arange(len(log)), chunks):
        rows = log.iloc[part]
        keys = {name: rows[name].to_numpy(np.int64) for name in ("user", "time", "slot")}
        writer.add(**keys, event=rows.event.to_numpy(), ids={"item": rows.item.to_numpy(np.int32)})
    past = np.full((len(log), 2), -1)
    writer.finish(past)
    return past, {name: np.load(folder / f"{name}.npy") for name in ("item", "time", "user")}


def pasts(past, events, log):
    """slot -> the items of its history in order."""
    return {row.slot: events["item"][slice(*past[row.slot])].tolist() for row in log.itertuples()}


def slow_pasts(log, delay=0):
    """The same by comparing every row with every other."""
    events = log[log.event].sort_values(["time", "slot"])
    return {
        row.slot: events[(events.user == row.user) & (events.time < row.time - delay)].item.tolist()
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
    monkeypatch.setattr(buckets, "ROWS_PER_BUCKET", rows_per_bucket)
    assert HistoryWriter(tmp_path / "empty", [], len(log)).buckets.num == -(-len(log) // rows_per_bucket) > 1
    assert pasts(*write(tmp_path / "several", log), log) == one
    assert sorted(path.name for path in (tmp_path / "several").iterdir()) == ["item.npy", "time.npy", "user.npy"]


def test_the_order_in_which_events_come_does_not_matter(tmp_path):
    log = random_log(1)
    mixed = log.sample(frac=1, random_state=0)
    assert pasts(*write(tmp_path / "mixed", mixed, chunks=7), mixed) == pasts(*write(tmp_path / "plain", log), log)


@pytest.mark.parametrize("delay", [1, 4, 100])
def test_an_event_is_known_only_after_its_delay(tmp_path, delay):
    log = random_log(2)
    found, wanted = pasts(*write(tmp_path / "events", log, delay=delay), log), slow_pasts(log, delay)
    assert found == wanted
    assert sum(map(len, wanted.values())) < sum(map(len, slow_pasts(log).values()))


@pytest.mark.parametrize("delay", [0, 3])
def test_a_row_that_did_not_happen_sees_and_is_not_seen(tmp_path, delay):
    log = random_log(3)
    log["event"] = np.arange(NUM_ROWS) % 3 > 0
    past, events = write(tmp_path / "events", log, delay=delay)
    assert len(events["item"]) == log.event.sum()
    assert pasts(past, events, log) == slow_pasts(log, delay)
    assert any(len(found) for slot, found in pasts(past, events, log).items() if not log.event[slot])


def check(past, events, log):
    time, user = log.time.to_numpy(), log.user.to_numpy()
    check_point_in_time(past, time, user, events["time"], events["user"], "the log: test")


def test_what_was_written_is_point_in_time(tmp_path):
    log = random_log(4)
    check(*write(tmp_path / "events", log), log)


def plant(tmp_path, change):
    """The message that refuses the pointers after `change(pointer, events, rows)`."""
    log = random_log(4)
    past, events = write(tmp_path / "events", log)
    change(past, events, log)
    with pytest.raises(BadInput, match="the log: test: history: wanted events strictly before each row") as caught:
        check(past, events, log)
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
    assert "found 0 rows that see their own time or later, 0 that see another user" not in message


def test_a_log_without_rows_has_no_pasts(tmp_path):
    past, events = write(tmp_path / "events", random_log(5, 0), chunks=1)
    assert past.shape == (0, 2)
    assert [len(found) for found in events.values()] == [0, 0, 0]
