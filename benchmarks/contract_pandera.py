"""What the same rules cost by pyarrow.compute and by pandera: python benchmarks/contract_pandera.py [ROWS].

pandera is no dependency: install it beside the project for this, and let Python find it there:

    pip install --no-deps --target runs/pandera pandera polars polars-runtime-32 typeguard typing-inspect \\
        mypy-extensions
    PYTHONPATH=runs/pandera python benchmarks/contract_pandera.py

Every way has a process of its own, with one thread. Rows per second are those of the best of three, from an Arrow table
in memory to the places of all bad rows; MiB is how far the process's peak rose above what it was with the table read.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa

COUNTRIES = ["at", "be", "ch", "de", "dk", "es", "fr", "it", "nl", "pl", "pt", "se"]
EARLIEST = "2026-01-01T00:00:00"
WAYS = ("arrow", "pandera_pandas", "pandera_polars")


def made(num_rows: int, share_bad: float) -> pa.Table:
    """Ids, a price, a country, a label and a time; every column but the ids has bad values of its own."""
    generator = np.random.default_rng(0)

    def spoil(values: np.ndarray, bad: object) -> np.ndarray:
        return np.where(generator.random(num_rows) < share_bad, bad, values)

    moment = np.datetime64(EARLIEST, "us") + generator.integers(0, 10**12, num_rows).astype("timedelta64[us]")
    return pa.table(
        {
            "user_id": generator.integers(0, 10**6, num_rows),
            "item_id": generator.integers(0, 10**5, num_rows),
            "price": spoil(generator.exponential(10, num_rows), np.nan),
            "country": pa.array(spoil(generator.choice(COUNTRIES, num_rows), "mars").tolist()),
            "clicked": pa.array(spoil(generator.integers(0, 2, num_rows), 2).astype(np.int8)),
            "timestamp": pa.array(spoil(moment, np.datetime64(0, "us")), pa.timestamp("us")),
        }
    )


def arrow(table: pa.Table) -> int:
    from recdistill.config.run import Run
    from recdistill.data.contract.rules import broken_rows
    from recdistill.data.log.listing import LogFile

    columns = {
        "user_id": {},
        "item_id": {},
        "price": {"min": 0, "max": 1000},
        "country": {"allowed": COUNTRIES, "max_length": 2},
    }
    data = {
        "source": "nowhere",
        "time": "timestamp",
        "user": "user_id",
        "label": {"column": "clicked"},
        "contract": {"columns": columns, "earliest": EARLIEST},
    }
    run = Run.model_validate({"name": "benchmark", "data": data, "features": {"ids": ["item_id"]}})
    n = table.num_rows
    file = LogFile(path="a", name="a", size=0, sha256="", num_rows=n, first_row=0, row_groups=(n,), partition={})
    bad = np.zeros(n, dtype=bool)
    for rule in broken_rows(run, table, file):
        bad[rule.rows] = True
    return int(bad.sum())


def pandera_pandas(table: pa.Table) -> int:
    import pandera.pandas as pandera

    columns = {
        "user_id": pandera.Column("int64"),
        "item_id": pandera.Column("int64"),
        "price": pandera.Column("float64", pandera.Check.in_range(0, 1000)),
        "country": pandera.Column(None, [pandera.Check.isin(COUNTRIES), pandera.Check.str_length(0, 2)]),
        "clicked": pandera.Column("int8", pandera.Check.isin([0, 1])),
        "timestamp": pandera.Column(None, pandera.Check.ge(np.datetime64(EARLIEST))),
    }
    frame = table.to_pandas()
    try:
        pandera.DataFrameSchema(columns).validate(frame, lazy=True)
    except pandera.errors.SchemaErrors as error:
        return int(error.failure_cases["index"].nunique())
    return 0


def pandera_polars(table: pa.Table) -> int:
    import pandera.polars as pandera
    import polars

    earliest = np.datetime64(EARLIEST).item()
    columns = {
        "user_id": pandera.Column(polars.Int64),
        "item_id": pandera.Column(polars.Int64),
        "price": pandera.Column(polars.Float64, pandera.Check.in_range(0, 1000)),
        "country": pandera.Column(polars.String, [pandera.Check.isin(COUNTRIES), pandera.Check.str_length(0, 2)]),
        "clicked": pandera.Column(polars.Int8, pandera.Check.isin([0, 1])),
        "timestamp": pandera.Column(polars.Datetime("us"), pandera.Check.ge(earliest)),
    }
    frame = polars.from_arrow(table)
    try:
        pandera.DataFrameSchema(columns).validate(frame, lazy=True)
    except pandera.errors.SchemaErrors as error:
        return int(error.failure_cases["index"].n_unique())
    return 0


def memory_mib(field: str) -> float:
    """VmRSS, what the process holds now, or VmHWM, the most it held since `forget_peak`; of Linux."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field)]
    return int(line.split()[1]) / 2**10


def forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def measured(way: Callable[[pa.Table], int], path: Path) -> dict[str, float]:
    """Seconds of the best of three, MiB above the table, and how many rows were found bad."""
    way(made(1000, 0.01))  # what is imported and compiled once is not what a row costs
    with pa.OSFile(str(path)) as file, pa.ipc.open_file(file) as reader:
        table = reader.read_all()
    forget_peak()
    before, seconds, bad = memory_mib("VmRSS"), [], 0
    for _ in range(3):
        began = time.perf_counter()
        bad = way(table)
        seconds.append(time.perf_counter() - began)
    return {"seconds": min(seconds), "mib": memory_mib("VmHWM") - before, "bad": bad}


def compare(num_rows: int, share_bad: float, folder: Path) -> None:
    """Print a line per way."""
    table = made(num_rows, share_bad)
    path = folder / f"{share_bad}.arrow"
    with pa.ipc.new_file(path, table.schema) as writer:
        writer.write_table(table)
    for way in WAYS:
        command = [sys.executable, Path(__file__), way, path]
        threads = {"OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1"}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **threads})
        if done.returncode:
            sys.exit(done.stderr)
        found = json.loads(done.stdout.splitlines()[-1])
        speed = f"{num_rows / found['seconds'] / 1e6:.1f} M"
        print(f"| {way} | {share_bad:.1%} | {speed} | {found['mib']:.0f} | {found['bad']:,} |", flush=True)


def main() -> None:
    if len(sys.argv) == 3:
        print(json.dumps(measured(globals()[sys.argv[1]], Path(sys.argv[2]))))
        return
    try:
        import pandera.pandas
        import pandera.polars  # noqa: F401
    except ImportError as error:
        print(f"skipped: {error}; the first lines of {Path(__file__).name} say how to install pandera for this")
        return
    print("| way | bad values | rows/s | MiB above the table | bad rows |\n|---|---|---|---|---|")
    with TemporaryDirectory() as folder:
        for share_bad in (0.0, 0.001, 0.1):
            compare(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000, share_bad, Path(folder))


if __name__ == "__main__":
    main()
