"""What a newcomer's first minutes hang on: locks, Makefile, Dockerfile, and what no file here may name."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TARGETS = ["help", "setup", "demo", "test", "test-all", "check", "fmt", "lint-docker", "clean"]
OUTER_MAKE = {"MAKEFLAGS", "MAKELEVEL", "MFLAGS", "PYTHON", "LOCK", "PIP_ARGS"}
# Put together here so that this file does not name them itself.
FORBIDDEN = [
    "files." + "pythonhosted",
    "pypi." + "org",
    "download." + "pytorch",
    "/" + "work/",
    "/" + "root/.pyenv",
]


@pytest.fixture(scope="module")
def lock():
    spec = importlib.util.spec_from_file_location("lock", ROOT / "requirements/lock.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(*command, cwd=ROOT):
    """Without what an outer make passes on, so that `make test PYTHON=...` tests the same as pytest."""
    environment = {key: value for key, value in os.environ.items() if key not in OUTER_MAKE}
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=60, env=environment)


def test_what_is_installed_agrees_with_the_locks_and_lacks_nothing(lock):
    assert lock.check() == []


@pytest.mark.parametrize(
    ("name", "fbgemm", "other"),
    [("cpu", "fbgemm-gpu-cpu", "fbgemm-gpu"), ("cuda", "fbgemm-gpu", "fbgemm-gpu-cpu")],
)
def test_a_lock_holds_the_triple_and_one_build_of_fbgemm(lock, name, fbgemm, other):
    pins = lock.read_lock(name)
    assert (pins["torch"], pins["torchrec"], pins[fbgemm]) == ("2.13.0", "1.8.0", "1.8.0")
    assert other not in pins
    assert any(pin.startswith("nvidia-") for pin in pins) == (name == "cuda")


@pytest.mark.parametrize("name", ["cpu", "dev", "cuda"])
def test_a_lock_is_sorted_exact_and_without_addresses(lock, name):
    lines = [line for line in lock.path_of(name).read_text().splitlines() if not line.startswith("#")]
    assert lines
    assert lines == sorted(lines, key=lambda line: line.split("==")[0])
    assert [line for line in lines if line.count("==") != 1 or "://" in line or "@" in line] == []


def test_a_stale_lock_is_noticed(lock):
    have, want = {"a": "1.0", "b": "1"}, {"a": "1.0.0", "b": "2", "c": "3"}
    assert lock.compare("cpu.txt", have, want) == ["cpu.txt: c==3 is missing", "cpu.txt: b==1, want 2"]
    assert lock.compare("cpu.txt", want, {"a": "1", "b": "2"}) == ["cpu.txt: c is not needed by anything"]


def test_an_unmet_requirement_is_noticed(lock):
    roots = [
        lock.Requirement("torch<2"),
        lock.Requirement("absent>1"),
        lock.Requirement("x; sys_platform=='none'"),
    ]
    needed, problems = lock.closure(roots[:2], lock.read_installed())
    assert "sympy" in needed
    assert any(problem.startswith("pyproject.toml wants torch<2: 2.13.0") for problem in problems)
    assert any("absent" in problem and "not installed" in problem for problem in problems)


def test_what_an_older_python_alone_is_asked_for_is_locked_too(lock):
    """A newcomer's Python may be the 3.11.2 of a distribution; redis asks for more before 3.11.3."""
    assert lock.applies(lock.Requirement("async-timeout; python_full_version < '3.11.3'"), "")
    assert not lock.applies(lock.Requirement("tomli; python_version < '3.11'"), "")
    assert lock.applies(lock.Requirement("x; extra == 'a'"), "a")
    assert not lock.applies(lock.Requirement("x; extra == 'a'"), "")


@pytest.mark.parametrize("target", TARGETS)
def test_make_knows_the_target_and_help_lists_it(target):
    assert run("make", "--dry-run", target).returncode == 0
    assert f"  {target} " in run("make").stdout


def test_another_python_is_refused_in_one_line(tmp_path):
    project = fake_project(tmp_path)
    result = run("make", "setup", "PYTHON=no-such-python", cwd=project)
    assert result.returncode != 0
    assert "make setup needs Python 3.11 and 'no-such-python' is not one" in result.stderr
    assert not (project / ".venv").exists()


@pytest.mark.parametrize("broken", ["cpu.txt", "dev.txt", "--editable", "doctor"])
def test_a_setup_cut_short_is_done_again(tmp_path, broken):
    project = fake_project(tmp_path)
    (project / "broken").write_text(broken)
    assert run("make", "setup", "PYTHON=./python", cwd=project).returncode != 0
    (project / "broken").write_text("nothing")
    again = run("make", "setup", "PYTHON=./python", cwd=project)
    assert again.returncode == 0
    assert f"did {broken}" in again.stdout
    assert "did" not in run("make", "setup", "PYTHON=./python", cwd=project).stdout


def fake_project(folder):
    """The Makefile with a python whose venv only says what it is asked, and fails at the word in `broken`."""
    (folder / "requirements").mkdir()
    for name in ("Makefile", "pyproject.toml", "requirements/cpu.txt", "requirements/dev.txt"):
        shutil.copy(ROOT / name, folder / name)
    tool = folder / "tool"
    tool.write_text(
        "#!/bin/bash\nfor word; do\n  word=${word#requirements/}\n"
        '  [ "$word" = "$(cat broken)" ] && exit 1\n  echo "did $word"\ndone\n'
    )
    python = folder / "python"
    python.write_text(
        '#!/bin/bash\n[ "$1" = -c ] && exit 0\nrm -rf .venv && mkdir -p .venv/bin\n'
        "cp tool .venv/bin/python && cp tool .venv/bin/recdistill\n"
    )
    for script in (tool, python):
        script.chmod(0o755)
    return folder


def test_the_dockerfile_passes_hadolint():
    hadolint = Path(sys.prefix) / "bin/hadolint"
    if not hadolint.exists():
        pytest.skip("hadolint is not installed: pip install --no-deps -r requirements/dev.txt")
    result = run(str(hadolint), "Dockerfile")
    assert (result.returncode, result.stdout) == (0, "")


def test_no_file_names_a_package_host_or_a_path_of_one_machine():
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout, so which files belong to it is unknown")
    listed = run("git", "ls-files", "-co", "--exclude-standard").stdout.splitlines()
    files = [ROOT / name for name in listed if (ROOT / name).is_file()]
    assert ROOT / "Makefile" in files
    found = [(str(path.relative_to(ROOT)), word) for path in files for word in named_in(path)]
    assert found == []


def named_in(path):
    text = path.read_bytes().decode(errors="replace")
    return [word for word in FORBIDDEN if word in text]
