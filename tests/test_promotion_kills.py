"""kill -9 before every line of the promotion code from upload to alias: one valid champion, and a rerun converges."""

import json
import shutil
import signal
from itertools import groupby

import pytest
from promotion_world import forked, killed_at, opened, publish, register

pytestmark = pytest.mark.slow
ALIASES = {None: {"champion": 1}, "1": {"champion": 2, "previous_champion": 1}}


def begin(root, baseline):
    """A store where the baseline, if there is one, is champion."""
    registry = opened(root)
    if baseline is not None:
        registry.promote(register(registry, "aa"), why="first", key="k1", replacing=None)


def mlflow_aliases(registry):
    found = registry.client.search_registered_models(f"name='{registry.model}'")
    return {alias: int(version) for model in found for alias, version in model.aliases.items()}


def check_after_a_kill(root, baseline):
    """What servers and people see; then the same step again, which must end as if nothing had been."""
    registry = opened(root)
    champion, before, new = registry.champion(), baseline and int(baseline), 1 if baseline is None else 2
    assert (champion and int(champion.version)) in (before, new)
    shown = mlflow_aliases(registry).get("champion")
    assert shown in (before, new)
    publish(root, "bb", baseline)
    check_whole(root, baseline)


def check_whole(root, baseline):
    registry = opened(root)
    versions = registry.client.search_model_versions(f"name='{registry.model}'")
    digests = [version.tags["bundle_sha256"] for version in versions]
    assert sorted(digests) == (["bb"] if baseline is None else ["aa", "bb"])
    assert mlflow_aliases(registry) == ALIASES[baseline]
    assert registry.misplaced() == []
    assert [event.version for event in registry.history()] == ([1] if baseline is None else [1, 2])
    assert json.loads((root / "out/published.json").read_text())["version"] == int(registry.champion().version)
    logs = registry.client.search_experiments(filter_string=f"name LIKE '{registry.model}-promotion-log'")
    assert len(logs) == 1


def distinct(met):
    """The first and the last point of each row between which nothing on disk changed.

    A kill at any line between these two leaves the same behind: what a process had in its memory is gone.
    """
    rows = [list(row) for _, row in groupby(met, key=lambda point: point[2])]
    return list(dict.fromkeys((name, time) for row in rows for name, time, _ in (row[0], row[-1])))


@pytest.mark.parametrize("baseline", [None, "1"])
def test_a_kill_at_any_line_leaves_one_champion_and_a_rerun_ends_the_same(_migrated, tmp_path, baseline):
    base, root, lines = tmp_path / "base", tmp_path / "world", tmp_path / "lines.json"

    def again(source):
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(source, root)

    def undisturbed():
        lines.write_text(json.dumps(killed_at(None, lambda: publish(root, "bb", baseline), root)))

    warm(tmp_path / "warm", _migrated)
    base.mkdir()
    shutil.copy(_migrated, base / "mlflow.db")
    again(base)
    assert forked(lambda: begin(root, baseline)) == 0
    shutil.rmtree(base)
    shutil.copytree(root, base)
    assert forked(undisturbed) == 0
    assert forked(lambda: check_whole(root, baseline)) == 0
    met = json.loads(lines.read_text())
    assert {"promote.py", "registry.py", "succession.py", "log.py", "alias.py"} <= {
        point[0].split(":")[0] for point in met
    }
    chosen = distinct(met)
    assert 20 < len(chosen) < len(met)
    missed = []
    for point in chosen:
        again(base)
        died = forked(lambda point=point: killed_at(point, lambda: publish(root, "bb", baseline), root))
        assert died in (-signal.SIGKILL, 0), point
        missed += [point] if died == 0 else []
        assert forked(lambda: check_after_a_kill(root, baseline)) == 0, f"killed before {point}"
    assert len(missed) <= 2, "a busy machine goes other ways at times, where git does not answer, say"


def warm(root, migrated):
    """Once in this process, elsewhere: its copies then have everything loaded, and no open store."""
    root.mkdir()
    shutil.copy(migrated, root / "mlflow.db")
    publish(root, "bb", None)
    check_whole(root, None)
