"""The doctor on the real environment, and on the broken ones that it is there for."""

import importlib.metadata
import shutil
import sys
from collections import namedtuple

import pytest

from recdistill import doctor

GOOD = {"torch": "2.13.0+cpu", "torchrec": "1.8.0", "fbgemm-gpu-cpu": "1.8.0"}


@pytest.fixture
def installed(monkeypatch):
    """Makes importlib.metadata know the given versions and nothing else."""

    def install(**versions):
        versions = {package.replace("_", "-"): version for package, version in versions.items()}

        def version(package):
            if package not in versions:
                raise importlib.metadata.PackageNotFoundError(package)
            return versions[package]

        monkeypatch.setattr(importlib.metadata, "version", version)

    return install


def examine(check, remedy="usual remedy"):
    return doctor.attempt("name", remedy, check)


def test_this_environment_has_no_failure():
    findings = doctor.check_all(quick=True, tracking_uri=None)
    assert len(findings) == 12
    assert [finding for finding in findings if finding.status == "fail"] == []


@pytest.mark.slow
def test_this_environment_passes_the_full_check(tmp_path):
    findings = doctor.check_all(quick=False, tracking_uri=f"sqlite:///{tmp_path}/mlflow.db")
    assert findings[-1].name == "tracking store"
    assert [finding for finding in findings if finding.status == "fail"] == []


def test_torchrec_step_gives_known_gradients():
    assert doctor.torchrec_step().status == "ok"


def test_the_agreed_triple_is_ok(installed):
    installed(**GOOD)
    assert doctor.torch_triple().status == "ok"


@pytest.mark.parametrize(
    ("package", "version"),
    [("torch", "2.12.0"), ("torchrec", "1.7.0"), ("fbgemm-gpu-cpu", "1.7.0"), ("torch", "2.11.0")],
)
def test_another_triple_fails_and_names_the_lock(installed, package, version):
    installed(**GOOD | {package: version})
    finding = examine(doctor.torch_triple, doctor.INSTALL)
    assert finding.status == "fail"
    assert version in finding.found
    assert "pip install --no-deps -r requirements/cpu.txt" in finding.remedy


def test_a_missing_part_of_the_triple_fails(installed):
    installed(torch="2.13.0", torchrec="1.8.0")
    assert doctor.torch_triple().status == "fail"


def test_both_builds_of_fbgemm_fail_and_both_are_removed_first(installed):
    installed(**GOOD, fbgemm_gpu="1.8.0")
    finding = examine(doctor.torch_triple)
    assert finding.status == "fail"
    assert "uninstall -y fbgemm-gpu fbgemm-gpu-cpu && " in finding.remedy


@pytest.mark.parametrize(("fastapi", "status"), [("0.150.0", "ok"), ("0.151.0", "fail"), ("0.165.0", "fail")])
def test_fastapi_that_breaks_prefects_server_fails(installed, fastapi, status):
    installed(prefect="3.8.8", fastapi=fastapi)
    assert doctor.prefect_pair().status == status


@pytest.mark.parametrize(("version", "status"), [("3.9.0", "fail"), ("3.10.0", "ok"), ("2.22.0", "fail")])
def test_an_old_mlflow_fails(installed, version, status):
    installed(mlflow=version)
    assert doctor.mlflow().status == status


@pytest.mark.parametrize(("free_gib", "status"), [(0.5, "fail"), (5, "warn"), (50, "ok")])
def test_a_full_disk(monkeypatch, free_gib, status):
    usage = namedtuple("usage", "free")(free_gib * 2**30)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    finding = examine(doctor.disk, doctor.DISK)
    assert finding.status == status
    assert bool(finding.remedy) == (status != "ok")


@pytest.mark.parametrize(
    ("build", "driver", "device", "status", "remedy"),
    [
        (None, False, False, "ok", ""),
        (None, True, False, "warn", "LOCK=cuda"),
        ("13.0", True, True, "ok", ""),
        ("13.0", True, False, "fail", "driver for CUDA 13.0"),
        ("13.0", False, False, "warn", "LOCK=cpu"),
    ],
)
def test_cuda_build_driver_and_device_go_together(monkeypatch, build, driver, device, status, remedy):
    import torch

    monkeypatch.setattr(torch.version, "cuda", build)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: device)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: int(device))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: "a device")
    monkeypatch.setattr(shutil, "which", lambda program: "nvidia-smi" if driver else None)
    monkeypatch.setattr(doctor.Path, "exists", lambda path: False)
    seen = doctor.cuda()
    assert seen.status == status
    assert remedy in seen.remedy


@pytest.mark.parametrize("error", [ImportError, OSError, TypeError])
def test_a_check_that_raises_is_a_failure_with_the_remedy(error):
    def broken():
        raise error("libcudart.so.13: cannot open shared object file")

    finding = examine(broken)
    assert finding.status == "fail"
    assert "libcudart.so.13" in finding.found
    assert finding.remedy == "usual remedy"


def test_a_blocked_import_does_not_end_the_examination(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    failed = [f for f in doctor.check_all(quick=True, tracking_uri=None) if f.status == "fail"]
    assert [finding.name for finding in failed] == ["onnxruntime"]


def test_a_tracking_store_that_hangs_is_given_up(monkeypatch):
    monkeypatch.setattr(doctor, "TRACKING_PROBE", "import time; time.sleep(60)")
    seen = doctor.tracking_store("http://localhost", timeout_s=0.5)
    assert seen.status == "fail"
    assert "did not answer within 0.5 s" in seen.found


def test_a_tracking_store_that_refuses_is_quoted(monkeypatch):
    monkeypatch.setattr(doctor, "TRACKING_PROBE", "raise SystemExit('connection refused')")
    seen = doctor.tracking_store("http://localhost", timeout_s=30)
    assert (seen.status, seen.found) == ("fail", "connection refused")


def test_render_aligns_and_counts():
    findings = [
        doctor.Finding(name="disk", status="ok", found="50.0 GiB free", remedy=""),
        doctor.Finding(name="python", status="fail", found="3.12.1", remedy="make setup"),
    ]
    assert doctor.render(findings).splitlines() == [
        "ok    disk    50.0 GiB free",
        "fail  python  3.12.1",
        "              -> make setup",
        "1 ok, 0 warn, 1 fail",
    ]
