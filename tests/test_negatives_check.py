"""What no negatives can be drawn for is refused, all at once, and nothing is written."""

import numpy as np
import pyarrow as pa
import pytest
from conftest import the_line, write_log
from positives import NUM_ITEMS, log_of, run_of, sample

from recdistill.data.log import listing
from recdistill.data.negatives.sampled import sampled_log
from recdistill.problems import BadInput


def refused(tmp_path, table=None, **options) -> list[str]:
    with pytest.raises(BadInput) as error:
        sample(tmp_path, table, **options)
    assert not list((tmp_path / "run").glob("*"))
    return error.value.problems


def test_all_that_does_not_fit_is_said_at_once(tmp_path):
    table = log_of(offset=pa.array(np.zeros(4000)))
    data = {"label": {"column": "clicked"}, "user": "who"}
    lines = refused(tmp_path, table, data=data, item="article", item_columns=["genre", "session"])
    assert len(lines) == 6
    for words in (("column article",), ("column genre",), ("column who",), ("column offset", "another name")):
        the_line(lines, *words)
    the_line(lines, "column session", "one that a negative may change")
    the_line(lines, "data.label.column", "label: {column: sampled_label}")


def test_an_item_is_an_id(tmp_path):
    table = log_of()
    lines = refused(tmp_path, table.set_column(2, "item", table["item"].cast(pa.float64())))
    the_line(lines, "column item", "strings or whole numbers", "double")


def test_more_negatives_than_items_are_refused(tmp_path):
    the_line(refused(tmp_path, per_positive=NUM_ITEMS), "more than data.negatives.per_positive = 12 items", "found 12")


def test_a_request_with_every_item_is_refused(tmp_path):
    table = log_of(session=np.zeros(4000, dtype=np.int64))
    the_line(refused(tmp_path, table), "an item outside of every request", "a request with all 12")


def test_a_log_without_rows_is_refused_and_a_file_without_rows_stays_for_the_contract(tmp_path):
    table = log_of()
    the_line(refused(tmp_path / "1", table[:0]), "a log with rows")
    source = write_log(tmp_path / "2/log", {"a.parquet": table, "b.parquet": table[:0]})
    run = run_of(source, tmp_path / "run")
    folder = sampled_log(run, listing.open_data(run.data), tmp_path / "run")
    assert [file.num_rows > 0 for file in listing.open_log(str(folder)).files] == [True, False]


def test_a_window_without_rows_is_refused(tmp_path):
    the_line(refused(tmp_path, data={"start": "2099-01-01"}), "column item", "found 0")


@pytest.mark.parametrize("recent", ["0h", "90m"])
def test_recent_is_in_whole_hours(tmp_path, recent):
    with pytest.raises(ValueError, match="whole hours"):
        run_of(tmp_path, tmp_path, recent=recent)
