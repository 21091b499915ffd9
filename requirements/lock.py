"""Keeps the locks honest: compares them with what is installed and with what the installed packages ask for.

`python requirements/lock.py --check` prints every disagreement and exits 1 when there is one. To move a
version: pip install it into the environment, then `python requirements/lock.py --write`, which rewrites all
three locks below their headers (cuda.txt keeps its own lines for CUDA's libraries), and read the diff.
"""

import argparse
import importlib.metadata
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent
LOCKS = ("cpu", "dev", "cuda")
CPU_FBGEMM, CUDA_FBGEMM = "fbgemm-gpu-cpu", "fbgemm-gpu"  # torchrec asks for the second; either will do
OLDEST = {"python_full_version": "3.11.0"}  # some ask for more there than on the Python that runs this
CUDA_PREFIXES = ("nvidia-", "cuda-", "triton")  # what only cuda.txt pins

Lock = dict[str, str]


def path_of(lock_name: str) -> Path:
    return ROOT / f"requirements/{lock_name}.txt"


def read_lock(lock_name: str) -> Lock:
    """`name==version` lines -> canonical name -> version."""
    lines = path_of(lock_name).read_text().splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in pairs}


def read_roots() -> tuple[list[Requirement], list[Requirement]]:
    """What pyproject.toml asks for: to run, to develop."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    run, dev = project["dependencies"], project["optional-dependencies"]["dev"]
    return [Requirement(line) for line in run], [Requirement(line) for line in dev]


def read_installed() -> dict[str, importlib.metadata.Distribution]:
    """Canonical name -> distribution; the first on sys.path, which is the one that is imported."""
    found: dict[str, importlib.metadata.Distribution] = {}
    for distribution in importlib.metadata.distributions():
        found.setdefault(canonicalize_name(distribution.metadata["Name"]), distribution)
    return found


def closure(
    roots: list[Requirement], installed: Mapping[str, importlib.metadata.Distribution]
) -> tuple[set[str], list[str]]:
    """Every package the roots need, extras and markers honoured, and each requirement that is not met."""
    todo = [("pyproject.toml", root) for root in roots]
    seen: set[tuple[str, str]] = set()
    problems = []
    while todo:
        asker, wanted = todo.pop()
        name = canonicalize_name(wanted.name)
        if name == CUDA_FBGEMM and CPU_FBGEMM in installed:
            name = canonicalize_name(CPU_FBGEMM)
        if name not in installed:
            problems.append(f"{asker} wants {wanted}: not installed")
            continue
        version = installed[name].version
        if not wanted.specifier.contains(version, prereleases=True):
            problems.append(f"{asker} wants {wanted}: {version} is installed")
        for extra in {"", *wanted.extras} - {e for n, e in seen if n == name}:
            seen.add((name, extra))
            asked = map(Requirement, installed[name].requires or [])
            todo += [(name, requirement) for requirement in asked if applies(requirement, extra)]
    return {name for name, _ in seen}, problems


def applies(requirement: Requirement, extra: str) -> bool:
    """Whether it is asked for with this extra, on this Python or on the oldest that will do."""
    here = {"extra": extra}
    return requirement.marker is None or any(requirement.marker.evaluate(e) for e in (here, here | OLDEST))


def compare(title: str, lock: Lock, wanted: Lock) -> list[str]:
    """How the lock differs from what it should be."""
    added = [f"{title}: {name}=={wanted[name]} is missing" for name in sorted(wanted.keys() - lock.keys())]
    surplus = [f"{title}: {name} is not needed by anything" for name in sorted(lock.keys() - wanted.keys())]
    changed = sorted(n for n in lock.keys() & wanted.keys() if Version(lock[n]) != Version(wanted[n]))
    moved = [f"{title}: {name}=={lock[name]}, want {wanted[name]}" for name in changed]
    return added + surplus + moved


def to_cuda(cpu: Lock, cuda: Lock) -> Lock:
    """The CPU lock with its fbgemm build swapped and the CUDA lock's own lines."""
    shared = {name: version for name, version in cpu.items() if name != CPU_FBGEMM}
    own = {name: version for name, version in cuda.items() if name.startswith(CUDA_PREFIXES)}
    return shared | own | {CUDA_FBGEMM: cpu[CPU_FBGEMM]}


def to_cpu(cuda: Lock) -> Lock:
    """The CUDA lock with its fbgemm build swapped and without CUDA's lines."""
    shared = {name: version for name, version in cuda.items() if not name.startswith(CUDA_PREFIXES)}
    return {CPU_FBGEMM: shared.pop(CUDA_FBGEMM)} | shared


def derive() -> tuple[tuple[Lock, Lock, Lock], list[str]]:
    """The locks cpu, dev, cuda as the environment has them, and the requirements that it does not meet."""
    installed, (run, dev) = read_installed(), read_roots()
    if not {CPU_FBGEMM, CUDA_FBGEMM} & installed.keys():
        sys.exit("no fbgemm is installed here: make setup, then .venv/bin/python requirements/lock.py")
    needed, problems = closure(run, installed)
    tools, more = closure(dev, installed)
    runtime = {name: Version(installed[name].version).public for name in needed}
    extra = {name: Version(installed[name].version).public for name in tools - needed}
    on_cpu = CPU_FBGEMM in installed
    cpu, cuda = (runtime, to_cuda(runtime, read_lock("cuda"))) if on_cpu else (to_cpu(runtime), runtime)
    return (cpu, extra, cuda), problems + more


def check() -> list[str]:
    """Every disagreement between the locks, the installed environment and its metadata; empty is good."""
    locks, problems = derive()
    for name, lock in zip(LOCKS, locks, strict=True):
        problems += compare(f"{name}.txt", read_lock(name), lock)
    return problems


def write(lock_name: str, lock: Lock) -> None:
    """Rewrites the pins below the file's comment header."""
    path = path_of(lock_name)
    header = [line for line in path.read_text().splitlines() if line.startswith("#")]
    path.write_text("\n".join([*header, *(f"{name}=={lock[name]}" for name in sorted(lock))]) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--check", action="store_true", help="print what disagrees")
    action.add_argument("--write", action="store_true", help="rewrite the locks from what is installed")
    if parser.parse_args().write:
        for name, lock in zip(LOCKS, derive()[0], strict=True):
            write(name, lock)
    problems = check()
    print("\n".join(problems) or "the locks agree with the installed packages and with what those ask for")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
