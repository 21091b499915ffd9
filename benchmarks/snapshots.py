"""Memory and time of writing one table: `python benchmarks/snapshots.py`, a JSON line for each way (see decision 0009).

    dcp   torch.distributed.checkpoint with its safetensors storage, which pickles nothing on disk
    own   recdistill.train.engine.pieces

peak_mib: above what the process held with the table in memory. seconds: until the file is written, no fsync.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

ROWS, WIDTH = 1_000_000, 128


def measure(way: str) -> dict[str, object]:
    import torch
    import torch.distributed.checkpoint as dcp

    from recdistill.train.engine.pieces import pieces, write_pieces

    warnings.simplefilter("ignore")
    state = {"table": torch.ones(ROWS, WIDTH)}
    with tempfile.TemporaryDirectory() as folder:
        before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
        if way == "dcp":
            writer = dcp.HuggingFaceStorageWriter(path=folder, save_distributed=True)
            dcp.save(state, storage_writer=writer, no_dist=True)
        else:
            write_pieces(Path(folder), pieces(state), rank=0)
        seconds = time.perf_counter() - began
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    table_mib = state["table"].nbytes // 2**20
    return {"way": way, "table_mib": table_mib, "peak_mib": peak // 1024, "seconds": round(seconds, 2)}


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(measure(sys.argv[1])))
    else:
        for way in ("dcp", "own"):
            subprocess.run([sys.executable, __file__, way], check=True)
