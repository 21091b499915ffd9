"""A log of positives with a planted truth, and a run on it that is small in every way."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recdistill.config.run import Run

NUM_USERS, NUM_ITEMS, GROUPS = 90, 60, 3


def write_checkerboard(folder: Path, seed: int = 0, per_user: int = 12) -> Path:
    """User u likes the items i with i = u modulo 3, and acts on 12 of its 20, at distinct times; one file."""
    generator = np.random.default_rng(seed)
    liked = np.arange(NUM_ITEMS).reshape(-1, GROUPS)
    item = np.concatenate([generator.permutation(liked[:, user % GROUPS])[:per_user] for user in range(NUM_USERS)])
    user = np.repeat(np.arange(NUM_USERS), per_user)
    order = generator.permutation(len(user))
    at = pa.array(1_700_000_000_000_000 + np.arange(len(user)) * 1_000_000).cast(pa.timestamp("us", tz="UTC"))
    folder.mkdir(parents=True, exist_ok=True)
    table = pa.table({"user_id": user[order] + 1000, "item_id": [f"item-{n}" for n in item[order]], "at": at})
    pq.write_table(table, folder / "part-0.parquet")
    return folder


def pairs_run(log: Path, root: Path, **sections) -> Run:
    """A run of pairs that writes under `root` only; `sections` replace settings one level deep."""
    settings = {
        "name": "tiny-pairs",
        "root": str(root / "run"),
        "seed": 1,
        "device": "cpu",
        "threads": 1,
        "data": {"source": str(log), "user": "user_id", "time": "at", "pairs": {"item": "item_id", "core": 2}},
        "teacher": {"width": 16, "epochs": 12, "batch_size": 128, "learning_rate": 0.05, "patience": 12},
        "student": {"width": 2, "epochs": 6, "batch_size": 128, "learning_rate": 0.05, "seeds": 2, "patience": 6},
        "score": {"top": 20},
        "recipe": {
            "terms": [{"use": "label.bce"}, {"use": "list.softmax_kl"}],
            "lists": {"teacher_top": 10, "random": 10, "users": 64},
        },
        "evaluate": {"draws": 50, "at": [10, 50]},
        "gates": {"max_parameter_share": 0.2},
        "registry": {"tracking_uri": f"sqlite:///{root}/mlflow.db", "artifacts": str(root / "artifacts")},
    }
    for name, value in sections.items():
        both = isinstance(value, dict) and isinstance(settings.get(name), dict)
        settings[name] = {**settings[name], **value} if both else value
    return Run.model_validate(settings)
