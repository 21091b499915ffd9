"""Finds what is wrong with an installation before a run does: versions, packages that break each other, room.

A check does the thing itself in small where that is cheap: every trap known so far passes `pip check`.
"""

import importlib.metadata
import io
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

Status = Literal["ok", "warn", "fail"]

PIP = f"{sys.executable} -m pip"
INSTALL = f"{PIP} install --no-deps -r requirements/cpu.txt  # cuda.txt on a CUDA machine"
TWO_BUILDS = f"{PIP} uninstall -y fbgemm-gpu fbgemm-gpu-cpu && {INSTALL}"
IMPORTS = (
    f"{INSTALL}; if libcudart or libcublas is missing, torch is a CUDA build: make setup LOCK=cuda, or "
    "make clean setup PIP_ARGS='--extra-index-url <an index with CPU wheels of torch>'; "
    "if libgomp.so.1 is missing: apt-get install libgomp1"
)
PYTHON = "make setup PYTHON=python3.11"
DISK = "free 10 GiB, or run from a folder on a larger disk"
MEMORY = "close other programs, or make the tables and the batch smaller"

# torch minor -> the (torchrec, fbgemm) minors built against it
TRIPLES = {"2.13": ("1.8", "1.8"), "2.11": ("1.6", "1.6")}
FBGEMM_BUILDS = ("fbgemm-gpu", "fbgemm-gpu-cpu")
FASTAPI_CEILING = (0, 151)  # prefect 3.8.8 is tested below it; with 0.165 its server does not import
MLFLOW_FLOOR = (3, 10)
QUIET = {"DO_NOT_TRACK": "1", "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
GIB = 2**30
TRACKING_TIMEOUT_S = 60  # a new sqlite store takes up to 10 s to migrate
TRACKING_PROBE = "import mlflow, sys; mlflow.MlflowClient(sys.argv[1]).search_experiments(max_results=1)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one check saw, and what to do about it, as a command where there is one; "" when all is well."""

    name: str
    status: Status
    found: str
    remedy: str


class Seen(NamedTuple):
    """What a check returns; an empty remedy stands for the usual one of that check."""

    status: Status
    found: str
    remedy: str = ""


def check_all(*, quick: bool, tracking_uri: str | None) -> list[Finding]:
    """Every check, in a few seconds when quick; only a full one asks the MLflow store, if one is named."""
    findings = [
        attempt("python", PYTHON, python),
        attempt("torch triple", INSTALL, torch_triple),
        attempt("embedding lookup", IMPORTS, fbgemm_lookup if quick else torchrec_step),
        attempt("cuda", IMPORTS, cuda),
        attempt("bf16", IMPORTS, bf16),
        attempt("prefect", INSTALL, prefect_pair if quick else prefect_server),
        attempt("mlflow", INSTALL, mlflow),
        attempt("pyarrow", INSTALL, pyarrow),
        attempt("onnxruntime", INSTALL, onnxruntime),
        attempt("disk", DISK, disk),
        attempt("memory", MEMORY, memory),
        attempt("telemetry", "", telemetry),
    ]
    if tracking_uri is not None and not quick:
        remedy = f"start the server, or correct the address: {tracking_uri}"
        findings.append(attempt("tracking store", remedy, lambda: tracking_store(tracking_uri)))
    return findings


def attempt(name: str, remedy: str, check: Callable[[], Seen]) -> Finding:
    """The check's finding; whatever it raises is a finding too, since a broken import can raise anything."""
    try:
        seen = check()
    except Exception as error:
        seen = Seen("fail", shorten(f"{type(error).__name__}: {error}"))
    remedy = "" if seen.status == "ok" else seen.remedy or remedy
    return Finding(name=name, status=seen.status, found=seen.found, remedy=remedy)


def shorten(message: str) -> str:
    """The last line, where Python and MLflow say what was wrong, at most 200 characters of its end."""
    return message.strip().splitlines()[-1][-200:]


def judge(good: bool, found: str, want: str = "") -> Seen:
    """What was wanted is said only when it was not found."""
    return Seen("ok", found) if good else Seen("fail", f"{found}: want {want}" if want else found)


def minor(version: str) -> str:
    """`2.13.0+cpu` -> `2.13`."""
    return ".".join(version.split(".")[:2])


def release(version: str) -> tuple[int, ...]:
    """`0.150.0` -> (0, 150), for comparing."""
    return tuple(int(part) for part in version.split(".")[:2])


def installed_version(package: str) -> str | None:
    """None when the package is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def python() -> Seen:
    found = ".".join(map(str, sys.version_info[:3]))
    return judge(sys.version_info[:2] == (3, 11), found, "3.11")


def torch_triple() -> Seen:
    """torch, torchrec and fbgemm are compiled against each other; any other mix fails at import or later."""
    torch, torchrec = installed_version("torch"), installed_version("torchrec")
    builds = {build: version for build in FBGEMM_BUILDS if (version := installed_version(build))}
    fbgemm = ", ".join(f"{build} {version}" for build, version in builds.items()) or "no fbgemm"
    found = f"torch {torch}, torchrec {torchrec}, {fbgemm}"
    if len(builds) > 1:
        return Seen("fail", f"{found}: one overwrites the other's files", TWO_BUILDS)
    if torch is None or torchrec is None or not builds:
        return Seen("fail", found)
    wanted = TRIPLES.get(minor(torch))
    if wanted is None:
        return Seen("fail", f"{found}: known are torch {', '.join(TRIPLES)}")
    good = wanted == (minor(torchrec), *map(minor, builds.values()))
    return judge(good, found, f"torchrec {wanted[0]} and fbgemm {wanted[1]}")


def fbgemm_lookup() -> Seen:
    """One fused step on a table of ones: bags {0} and {2, 2}, SGD at 0.5, so the rows become 0.5, 1, 0."""
    import torch
    from fbgemm_gpu.split_embedding_configs import EmbOptimType
    from fbgemm_gpu.split_table_batched_embeddings_ops_common import EmbeddingLocation
    from fbgemm_gpu.split_table_batched_embeddings_ops_training import (
        ComputeDevice,
        SplitTableBatchedEmbeddingBagsCodegen,
    )

    table = SplitTableBatchedEmbeddingBagsCodegen(
        [(3, 4, EmbeddingLocation.HOST, ComputeDevice.CPU)],
        optimizer=EmbOptimType.EXACT_SGD,
        learning_rate=0.5,
    )
    (weight,) = table.split_embedding_weights()
    weight.fill_(1.0)
    table(torch.tensor([0, 2, 2]), torch.tensor([0, 1, 3])).sum().backward()
    rows = weight[:, 0].tolist()
    return judge(rows == [0.5, 1.0, 0.0], f"fbgemm's fused step gives {rows}", "[0.5, 1.0, 0.0]")


def torchrec_step() -> Seen:
    """The same bags through TorchRec: the sum's gradient is how often each row was looked up: 1, 0, 2."""
    import torch
    from torchrec import EmbeddingBagCollection, EmbeddingBagConfig, KeyedJaggedTensor

    config = EmbeddingBagConfig(name="t", embedding_dim=4, num_embeddings=3, feature_names=["f"])
    bags = EmbeddingBagCollection(tables=[config])
    ids = KeyedJaggedTensor.from_lengths_sync(keys=["f"], values=torch.tensor([0, 2, 2]), lengths=torch.tensor([1, 2]))
    bags(ids).to_dict()["f"].sum().backward()
    rows = bags.embedding_bags["t"].weight.grad[:, 0].tolist()
    if rows != [1.0, 0.0, 2.0]:
        return Seen("fail", f"torchrec's gradient is {rows}: want [1.0, 0.0, 2.0]")
    fused = fbgemm_lookup()
    return Seen(fused.status, f"torchrec's gradient is right; {fused.found}")


def cuda() -> Seen:
    """Whether torch's build, the driver and the devices go together."""
    import torch

    build = torch.version.cuda
    driver = Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") is not None
    if build is None and driver:
        return Seen("warn", "there is a GPU, but torch is a CPU build", "make setup LOCK=cuda")
    if build is None:
        return Seen("ok", "torch is a CPU build, no GPU driver")
    if torch.cuda.is_available():
        devices = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
        return Seen("ok", f"torch for CUDA {build}: {', '.join(devices)}")
    if driver:
        remedy = f"install a driver for CUDA {build} and make a device visible, or make setup LOCK=cpu"
        return Seen("fail", f"torch for CUDA {build} sees no device, though a driver is there", remedy)
    return Seen("warn", f"torch is built for CUDA {build}, and there is no driver", "make setup LOCK=cpu")


def bf16() -> Seen:
    """bf16 makes a step 2.5 times as fast on a CPU that has it, and slower on one that emulates it."""
    import torch

    ones = torch.ones(4, 4, dtype=torch.bfloat16)
    cpuinfo = Path("/proc/cpuinfo")
    flags = cpuinfo.read_text().split() if cpuinfo.exists() else []
    native = sorted({"avx512_bf16", "amx_bf16"} & set(flags))
    found = f"the CPU has {', '.join(native)}" if native else "emulated on this CPU: train in float32 here"
    return judge((ones @ ones).float().sum().item() == 4 * 4 * 4, found)


def prefect_pair() -> Seen:
    """The version rule alone; `prefect_server` tries the import, which takes longer."""
    fastapi, prefect = importlib.metadata.version("fastapi"), importlib.metadata.version("prefect")
    want = "fastapi<0.151, since with later ones prefect's server does not import"
    return judge(release(fastapi) < FASTAPI_CEILING, f"prefect {prefect}, fastapi {fastapi}", want)


def prefect_server() -> Seen:
    """Imports the server's routes; `import prefect` and `prefect.server.api` work with a broken fastapi."""
    import prefect.server.api.server  # noqa: F401

    return prefect_pair()


def mlflow() -> Seen:
    version = importlib.metadata.version("mlflow")
    return judge(release(version) >= MLFLOW_FLOOR, version, "3.10 or later")


def tracking_store(uri: str, timeout_s: float = TRACKING_TIMEOUT_S) -> Seen:
    """Asks the store for an experiment, in a child so that MLflow's minutes of retries cannot hold us up."""
    environment = os.environ | {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}
    command = [sys.executable, "-c", TRACKING_PROBE, uri]
    try:
        child = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, env=environment)
    except subprocess.TimeoutExpired:
        return Seen("fail", f"{uri} did not answer within {timeout_s:g} s")
    return judge(child.returncode == 0, uri if child.returncode == 0 else shorten(f"{uri}\n{child.stderr}"))


def pyarrow() -> Seen:
    import pyarrow.parquet

    table = pyarrow.table({"item": [3, 1], "history": [[1], [2, 3]]})
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(table, buffer)
    good = pyarrow.parquet.read_table(buffer).equals(table)
    return judge(good, f"{pyarrow.__version__}, a Parquet round trip {'keeps' if good else 'changes'} a table")


def onnxruntime() -> Seen:
    """Runs y = -x at the versions torch.onnx writes (onnx's own default, IR 14, is too new for 1.31.1)."""
    import numpy as np
    import onnxruntime
    from onnx import TensorProto, helper

    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "negate", [x], [y])
    model = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 20)])
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (got,) = session.run(None, {"x": np.array([1, -2], np.float32)})
    good = got.tolist() == [-1.0, 2.0]
    return judge(good, f"{onnxruntime.__version__}, minus (1, -2) is {got.tolist()}")


def disk() -> Seen:
    """Room below the working folder, where runs/ grows."""
    free_gib = shutil.disk_usage(".").free / GIB
    return Seen("fail" if free_gib < 1 else "warn" if free_gib < 10 else "ok", f"{free_gib:.1f} GiB free")


def memory() -> Seen:
    import psutil

    available_gib = psutil.virtual_memory().available / GIB
    return Seen("warn" if available_gib < 4 else "ok", f"{available_gib:.1f} GiB available")


def telemetry() -> Seen:
    """Information only: whether Prefect and MLflow are kept from calling home."""
    unset = [f"{key}={value}" for key, value in QUIET.items() if os.environ.get(key) != value]
    return Seen("ok", f"on; these turn it off: {' '.join(unset)}" if unset else "off")


def render(findings: list[Finding]) -> str:
    """An aligned table, each remedy below its finding, and a line of counts."""
    width = max(len(finding.name) for finding in findings)
    lines = []
    for finding in findings:
        lines.append(f"{finding.status:<4}  {finding.name:<{width}}  {finding.found}")
        if finding.remedy:
            lines.append(f"{'':<{width + 6}}  -> {finding.remedy}")
    statuses = [finding.status for finding in findings]
    counts = ", ".join(f"{statuses.count(status)} {status}" for status in ("ok", "warn", "fail"))
    return "\n".join([*lines, counts])
