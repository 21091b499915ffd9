"""The bundle that benchmarks/serve.py serves: 20 id features of 50,000 rows x 16, a tower of 256-64, untrained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

ROOT = Path("runs/bench-serve")
ROWS, WIDTH, TOWER = 50_000, 16, (256, 64)
USER = [f"user_{number}" for number in range(10)]
ITEM = ["item_id", *(f"item_{number}" for number in range(1, 10))]
NUM_KNOWN = ROWS - 2  # of a table's rows, beside absent and unknown


def encoder() -> Any:
    """Whole numbers 0, 1, .. of every column, as a vocabulary each."""
    from recdistill.config.features import Features
    from recdistill.data.columns import Source
    from recdistill.data.encoder import Encoder, layout_of
    from recdistill.data.tables import Vocabulary

    features = Features.model_validate({"ids": [*USER, *ITEM]})
    values = pa.array(np.arange(NUM_KNOWN))
    tables = {name: Vocabulary(name=name, values=values) for name in (*USER, *ITEM)}
    return Encoder(
        features=features,
        layout=layout_of(features, tables),
        sources={name: Source(columns=(name,)) for name in (*USER, *ITEM)},
        tables=tables,
        scales=(),
        means={},
        served={},
    )


def write(folder: Path, seed: int = 0) -> Path:
    """The bundle and, beside it, items.parquet."""
    import torch

    from recdistill.models.student import StudentModel
    from recdistill.ship.write_bundle import write_bundle

    torch.manual_seed(seed)
    made = encoder()
    made.save(folder / "encoder")
    student = StudentModel(made.layout, width=WIDTH, attention=0, hidden=TOWER).eval()
    schema = pa.schema([(name, pa.int64()) for name in (*USER, *ITEM)])
    golden = pa.table(rows(np.random.default_rng(1), 64), schema=schema)
    write_bundle(student, folder / "encoder", made, schema, folder / "bundle", golden=golden)
    pq.write_table(items(), folder / "items.parquet")
    return folder / "bundle"


def rows(generator: np.random.Generator, num_rows: int) -> dict[str, Any]:
    """Random raw rows by column."""
    return {name: generator.integers(0, NUM_KNOWN, num_rows) for name in (*USER, *ITEM)}


def slates(generator: np.random.Generator, num_rows: int, candidates: int) -> dict[str, Any]:
    """Random users next to each other, each with as many random items and their features."""
    known, keys = items(), generator.integers(0, NUM_KNOWN, num_rows)
    users = rows(generator, -(-num_rows // candidates))
    each = {name: known.column(name).to_numpy()[keys] for name in ITEM}
    return {**{name: users[name].repeat(candidates)[:num_rows] for name in USER}, **each}


def items() -> pa.Table:
    """Every item once, its nine features at random."""
    generator = np.random.default_rng(2)
    found = {name: generator.integers(0, NUM_KNOWN, NUM_KNOWN) for name in ITEM}
    return pa.table({**found, "item_id": np.arange(NUM_KNOWN)})
