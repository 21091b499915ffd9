"""A drafted contract loads, and the log that it was drafted from obeys it; another log does not."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import yaml
from conftest import log_table, make_run, write_log

from recdistill.config.data import Contract
from recdistill.config.load import load
from recdistill.config.run import Run
from recdistill.data.inspect.check import check
from recdistill.data.inspect.infer import infer

REAL = Path(__file__).parents[2] / "shared" / "data"


def drafted(run: Run, folder: Path, slack=0.1) -> tuple[str, Run]:
    """The draft, and the run with it in place."""
    (folder / "draft").mkdir()
    text = infer(run, folder / "draft", slack)
    settings = run.model_dump(mode="json", exclude_none=True)
    pasted = yaml.safe_load("data:\n" + text)["data"]
    assert list(pasted) == ["contract"]
    (folder / "run.yaml").write_text(yaml.safe_dump(settings | {"data": settings["data"] | pasted}))
    return text, load(folder / "run.yaml")


def obeyed(run: Run, folder: Path) -> None:
    (folder / "check").mkdir()
    found = check(run, folder / "check")
    assert found.problems == []
    assert found.num_bad == 0


def odd_columns(num_rows):
    """Columns that are hard to write in YAML, or that rules do not fit."""
    words = ["no", "1e5", "null", "it's: # [x]", "日本", "new\nline", ""]
    return {
        "yes": pa.array([words[n % 7] for n in range(num_rows)]),
        "a: b #": pa.array([n % 3 == 0 for n in range(num_rows)]),
        "line\nbreak": pa.array(np.arange(num_rows, dtype=np.float32) / 7),
        "nothing": pa.nulls(num_rows, pa.string()),
        "strange": pa.array([float("nan"), 1.0] * (num_rows // 2)),
        "tiny": pa.array([5e-324, -0.0] * (num_rows // 2)),
        "huge": pa.array(np.linspace(-1, 1, num_rows) * 1.7e308),
        "negative": pa.array(-np.arange(1, num_rows + 1) * 2.5),
        "tags": pa.array([[None, 1], [], None, [2] * 300] * (num_rows // 4), pa.list_(pa.int16())),
        "struct": pa.array([{"a": n} for n in range(num_rows)]),
        "moment": pa.array([0, 2**62] * (num_rows // 2), pa.timestamp("us")),
        "money": pa.array(range(num_rows), pa.decimal128(12, 2)),
        "code": pa.array(["at", None] * (num_rows // 2)).dictionary_encode(),
    }


def test_a_generated_log_obeys_its_draft(tiny_run, tmp_path):
    text, run = drafted(tiny_run(data={"partition": {"column": "day"}}), tmp_path)
    contract = run.data.contract
    assert contract.columns["clicked"].allowed == [0, 1]
    assert contract.columns["categories"].max_length is not None
    assert contract.columns["price"].min is not None
    assert contract.columns["user_id"].model_dump(exclude_none=True) == {"type": "int64", "nulls": False}
    assert "day" not in contract.columns
    assert contract.complete
    assert 400 < contract.min_rows_per_partition < 600
    assert contract.label_rate is not None
    assert "no nulls" in text
    obeyed(run, tmp_path)


def test_a_log_of_odd_columns_obeys_its_draft(tmp_path):
    parts = {f"p={n}/a b.parquet": log_table(400, seed=n, **odd_columns(400)) for n in range(2)}
    write_log(tmp_path / "log", parts)
    text, run = drafted(make_run(tmp_path / "log", tmp_path), tmp_path)
    rules = run.data.contract.columns
    assert len(text.splitlines()) == 2 + len(rules) + 3
    assert rules["nothing"].nulls
    assert rules["strange"].max is None
    assert rules["strange"].allowed is None
    assert rules["code"].allowed == ["at"]
    assert set(rules["yes"].allowed or ()) == {"no", "1e5", "null", "it's: # [x]", "日本", "new\nline", ""}
    assert rules["negative"].max is not None
    assert rules["negative"].max <= 0
    obeyed(run, tmp_path)


@pytest.mark.parametrize("slack", [0.0, 0.1, 3.0])
def test_bounds_hold_whatever_the_slack(tmp_path, slack):
    prices = np.random.default_rng(2).normal(3, 1, 300) ** 2
    write_log(tmp_path / "log", {"a.parquet": log_table(300, seed=5, price=prices)})
    _, run = drafted(make_run(tmp_path / "log", tmp_path), tmp_path, slack)
    price = run.data.contract.columns["price"]
    assert price.min is not None
    assert price.max is not None
    assert 0 <= price.min <= prices.min()
    assert prices.max() <= price.max <= prices.max() + 2 * slack * np.ptp(prices)
    obeyed(run, tmp_path)


def test_another_log_breaks_the_draft(tmp_path):
    write_log(tmp_path / "log", {"a.parquet": log_table(300)})
    _, run = drafted(make_run(tmp_path / "log", tmp_path), tmp_path)
    write_log(tmp_path / "other", {"a.parquet": log_table(50, country=pa.array(["mars"] * 50))})
    source = {"data": run.data.model_copy(update={"source": str(tmp_path / "other")})}
    (tmp_path / "check").mkdir()
    lines = check(run.model_copy(update=source), tmp_path / "check").problems
    assert any("column country: wanted one of" in line and "found mars (50 rows so)" in line for line in lines)
    assert any("wanted at least 150 good rows, found 50" in line for line in lines)


def test_a_gap_and_a_null_are_drafted_as_allowed(tmp_path):
    begin = 1_704_067_200_000_000  # 2024-01-01
    days = {}
    for day in (1, 2, 4, 5):
        moments = pa.array(begin + (day - 1) * 86_400_000_000 + np.arange(200) * 10**6).cast(pa.timestamp("us", "UTC"))
        holed = pa.array([None if n % 10 == 0 else float(n) for n in range(200)])
        days[f"day=2024-01-{day:02}/a.parquet"] = log_table(200, seed=day, timestamp=moments, price=holed)
    write_log(tmp_path / "log", days)
    text, run = drafted(make_run(tmp_path / "log", tmp_path, data={"partition": {"column": "day"}}), tmp_path)
    assert not run.data.contract.complete
    assert run.data.contract.min_rows_per_partition == 100
    assert run.data.contract.columns["price"].nulls
    assert "10.00% nulls" in text
    assert run.data.contract.earliest is not None
    assert run.data.contract.earliest.isoformat() == "2024-01-01T00:00:00+00:00"
    obeyed(run, tmp_path)


def test_the_draft_does_not_depend_on_the_contract_there_is(tiny_run, tmp_path):
    strict = tiny_run(data={"contract": {"columns": {"price": {"max": 1}, "unheard": {}}}})
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert drafted(strict, tmp_path / "a")[0] == drafted(tiny_run(), tmp_path / "b")[0]


def test_every_line_has_its_evidence_and_the_draft_is_one_contract(tiny_run, tmp_path):
    text, run = drafted(tiny_run(), tmp_path)
    lines = [line for line in text.splitlines() if line.strip() != "columns:"]
    assert len(lines) > 8
    assert all(re.search(r"  # \S", line) for line in lines)
    assert isinstance(run.data.contract, Contract)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ml-1m", "globo"])
def test_a_real_log_obeys_its_draft(tmp_path, monkeypatch, name):
    root = Path(__file__).parents[1]
    if not (REAL / name).is_dir():
        pytest.skip(f"../shared/data/{name} is not here")
    monkeypatch.chdir(root)
    _, run = drafted(load(root / "configs" / f"{name}.yaml", [f"root={tmp_path}/run"]), tmp_path)
    assert run.data.contract.columns
    obeyed(run, tmp_path)
