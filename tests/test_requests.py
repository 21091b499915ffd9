"""Raw requests rebuilt from the log: what a server would get is what the student was trained on."""

import numpy as np
import pytest
from conftest import read_log

from recdistill.data import requests as module
from recdistill.data.encoder import Encoder
from recdistill.data.prepare import open_checked
from recdistill.data.split import SPLITS
from recdistill.data.store import open_rows

NONE = np.empty(0, np.int64)


@pytest.fixture(scope="module")
def encoder(tiny_prepared):
    return Encoder.open(tiny_prepared / "encoder")


def raw_requests(run, log, row_ids, encoder):
    return module.raw_requests(run, log, row_ids, NONE, encoder)


@pytest.mark.parametrize("split", SPLITS)
def test_encoded_requests_are_the_rows_of_the_store(tiny_run, tiny_prepared, encoder, split):
    run = tiny_run()
    rows = open_rows(tiny_prepared, split)
    index = np.random.default_rng(0).permutation(len(rows))[:150]
    requests = raw_requests(run, open_checked(run), rows["row_id"][index], encoder)
    ids, dense = encoder.request(requests)
    assert (ids == rows.ids(index)).all()
    assert (dense == rows.dense(index)).all()
    assert ids[:, -1].any()


def test_histories_are_the_users_earlier_events_oldest_first(tiny_run, tiny_log, encoder):
    run = tiny_run()
    log = read_log(tiny_log)
    wanted = np.random.default_rng(1).integers(0, len(log), 50)
    found = raw_requests(run, open_checked(run), wanted, encoder).to_pylist()
    assert len(found) == 50
    for row_id, request in zip(wanted, found, strict=True):
        row = log.iloc[row_id]
        past = log[(log.user_id == row.user_id) & (log.timestamp < row.timestamp)].tail(6)
        assert request["item_id"] == row.item_id
        assert request["price"] == row.price
        assert request["history.item_id"] == past.item_id.tolist()
        assert request["history.clicked"] == past.clicked.tolist()


def test_rows_come_in_the_order_in_which_they_were_asked_for(tiny_run, encoder):
    run = tiny_run()
    wanted = np.array([4000, 3, 5999, 3, 0])
    log = open_checked(run)
    together = raw_requests(run, log, wanted, encoder).to_pylist()
    assert together == [raw_requests(run, log, wanted[place : place + 1], encoder).to_pylist()[0] for place in range(5)]
    assert together[1] == together[3]


def test_without_a_history_there_are_no_lists(tiny_run, encoder):
    run = tiny_run(features={"history": None})
    names = raw_requests(run, open_checked(run), np.array([7]), encoder).column_names
    assert "item_id" in names
    assert [name for name in names if name.startswith(("history.", "_"))] == []
