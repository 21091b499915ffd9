"""Builders that many tests share: a tiny world with a planted truth, and a run on it that is small in every way."""

import shutil
import sys
from pathlib import Path

import hypothesis
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from recdistill.config.run import Run
from recdistill.data.log.listing import LogFile
from recdistill.data.prepare import prepare
from recdistill.data.synth.generate import World, synth
from recdistill.files import whole_folder
from recdistill.types import Batch, IdFeature, Layout

torch.set_num_threads(1)
# The same examples in every run, and no deadline: the machine may be busy.
hypothesis.settings.register_profile("recdistill", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("recdistill")

TINY = World(num_users=150, num_items=100, num_days=6, seed=3)
TINY_ROWS = 6000


@pytest.fixture(scope="session")
def tiny_log(tmp_path_factory) -> Path:
    """About 6000 rows of 150 users and 100 items over 6 days, a file a day. Shared: copy it before you change it."""
    folder = tmp_path_factory.mktemp("tiny") / "log"
    synth(folder, TINY_ROWS, TINY)
    return folder


@pytest.fixture
def tiny_run(tiny_log, tmp_path):
    """A builder of runs on the tiny log, all in the test's own folder: tiny_run(student={"seeds": 2}, seed=5)."""

    def build(**sections) -> Run:
        return make_run(tiny_log, tmp_path, **sections)

    return build


@pytest.fixture(scope="session")
def tiny_prepared(tiny_log, tmp_path_factory) -> Path:
    """What the prepare step writes for the tiny run. Shared: only read it."""
    root = tmp_path_factory.mktemp("prepared")
    with whole_folder(root / "prepare", {"step": "prepare", "key": "0" * 64}) as out:
        prepare(make_run(tiny_log, root), {}, out)
    return root / "prepare"


@pytest.fixture(scope="session")
def _migrated(tmp_path_factory) -> Path:
    """An empty sqlite tracking store: its migrations cost seconds, so they are done once."""
    from recdistill.promotion.registry import open_registry

    root = tmp_path_factory.mktemp("store")
    open_registry(make_run(root, root))
    return root / "mlflow.db"


@pytest.fixture
def mlflow_uri(_migrated, tmp_path) -> str:
    """A fresh tracking store in the test's own folder, where tiny_run expects it."""
    shutil.copy(_migrated, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path}/mlflow.db"


@pytest.fixture
def call(monkeypatch, capsys):
    """Run the command in this process: (exit status, standard output, standard error)."""
    from recdistill.cli import main as cli

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["recdistill", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        shown = capsys.readouterr()
        return int(ended.value.code or 0), shown.out, shown.err

    return run


def make_run(log: Path, root: Path, **sections) -> Run:
    """A run on a log of synth's columns that writes under `root` only; `sections` replace settings one level deep."""
    settings = {
        "name": "tiny",
        "root": str(root / "run"),
        "seed": 1,
        "device": "cpu",
        "threads": 1,
        "data": {
            "source": str(log),
            "time": "timestamp",
            "user": "user_id",
            "label": {"column": "clicked"},
            "request": {"column": "request_id"},
            "split": {"train": 0.7, "valid": 0.15},
        },
        "features": {
            "ids": ["item_id", "country", {"column": "categories", "max_values": 2}],
            "dense": [{"column": "price", "transform": "log1p"}],
            "history": {"item": "item_id", "outcomes": ["clicked"], "length": 6},
        },
        "teacher": {
            "epochs": 1,
            "batch_size": 256,
            "width": 8,
            "interaction": {"use": "dcnv2", "layers": 1, "hidden": [16]},
        },
        "student": {"epochs": 1, "batch_size": 256, "width": 2, "attention": 4, "tower": [8], "seeds": 2},
        "evaluate": {"draws": 50},
        "registry": {"tracking_uri": f"sqlite:///{root}/mlflow.db", "artifacts": str(root / "artifacts")},
    }
    for name, value in sections.items():
        both = isinstance(value, dict) and isinstance(settings.get(name), dict)
        settings[name] = {**settings[name], **value} if both else value
    return Run.model_validate(settings)


def contract_run(features: dict | None = None, **data) -> Run:
    """A run of which only the rules are asked; it reads and writes nothing."""
    return make_run(Path("nowhere"), Path("nowhere"), data=data, **({"features": features} if features else {}))


def log_file(num_rows: int = 1, name: str = "part-0.parquet", row_groups=None, **partition) -> LogFile:
    """A file of a log by its description alone."""
    groups = tuple(row_groups or (num_rows,))
    sizes = {"size": 1, "num_rows": num_rows, "first_row": 0, "row_groups": groups}
    return LogFile(path=f"LOG/{name}", name=name, sha256="", partition=partition, **sizes)


def the_line(lines: list[str], *words: str) -> str:
    """The only problem that holds all the words: one line that says where, what was wanted, found and is to be done."""
    found = [line for line in lines if all(word in line for word in words)]
    assert len(found) == 1, (words, lines)
    assert ": wanted " in found[0]
    assert "\n" not in found[0]
    return found[0]


def write_log(folder: Path, files: dict[str, pa.Table], **options) -> Path:
    """Parquet files by name under `folder`, page checksums written."""
    for name, table in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, path, write_page_checksum=True, **options)
    return folder


def read_log(folder: Path) -> pd.DataFrame:
    """All rows of a log in order, numbered from 0."""
    return pd.concat([pq.read_table(path).to_pandas() for path in sorted(folder.rglob("*.parquet"))], ignore_index=True)


def log_table(num_rows: int, seed: int = 0, **columns) -> pa.Table:
    """Random rows of synth's columns; `columns` replace or, where None, drop some."""
    generator = np.random.default_rng(seed)
    moments = 1_700_000_000_000_000 + np.sort(generator.integers(0, 10**9, num_rows)) * 1000
    made = {
        "user_id": generator.integers(0, max(1, num_rows // 10), num_rows),
        "item_id": generator.integers(0, 30, num_rows),
        "categories": pa.array([["books", "films"][: n % 3] for n in range(num_rows)], pa.list_(pa.string())),
        "country": pa.array(generator.choice(["at", "be", "ch"], num_rows)),
        "price": generator.exponential(10, num_rows),
        "timestamp": pa.array(moments).cast(pa.timestamp("us", tz="UTC")),
        "request_id": np.arange(num_rows) // 5,
        "clicked": pa.array(generator.integers(0, 2, num_rows).astype(np.int8)),
    }
    made |= columns
    return pa.table({name: value for name, value in made.items() if value is not None})


def small_layout(num_items: int = 12) -> Layout:
    """item (single), country (single), tags (bag of 3), and a history of items and outcomes, 4 long; one dense."""
    item = IdFeature(name="item", table="item", start=0, width=1, num_rows=num_items, kind="single")
    country = IdFeature(name="country", table="country", start=1, width=1, num_rows=5, kind="single")
    tags = IdFeature(name="tags", table="tags", start=2, width=3, num_rows=7, kind="bag")
    items = IdFeature(name="history.item", table="item", start=5, width=4, num_rows=num_items, kind="history")
    clicks = IdFeature(name="history.click", table="click", start=9, width=4, num_rows=4, kind="history")
    return Layout(ids=(item, country, tags, items, clicks), dense=("price",))


def small_batch(layout: Layout, num_rows: int = 16, seed: int = 0) -> Batch:
    """Random known ids everywhere, no padding; labels of both classes; requests of 4 rows."""
    generator = torch.Generator().manual_seed(seed)
    columns = [torch.randint(2, limit, (num_rows,), generator=generator) for limit in layout.limits()]
    return Batch(
        ids=torch.stack(columns, dim=1),
        dense=torch.randn((num_rows, len(layout.dense)), generator=generator),
        label=(torch.arange(num_rows) % 2).float(),
        weight=torch.ones(num_rows),
        offset=torch.zeros(num_rows),
        request=torch.arange(num_rows) // 4,
        row_id=torch.arange(num_rows),
    )
