"""The package's shape, read from its sources: imports go one way, heavy packages stay home, nothing unpickles."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("recdistill", "flows")

# A module imports from its own group and from groups above it only. A name stands for itself and all below it.
LAYERS = [
    ["types", "problems"],
    ["slates", "files", "code", "heap", "plugins"],
    ["metrics", "distil"],
    ["config.sections"],
    ["config.pairs"],
    [
        "config.data",
        "config.features",
        "config.choice",
        "config.training",
        "config.score",
        "config.gates",
        "config.windows",
    ],
    ["config.teacher", "config.student", "config.export", "config.recipe", "config.monitor"],
    ["config.unfit"],
    ["config.run", "config.load", "catalogue"],
    [
        "data",
        "models",
        "pairs.log",
        "pairs.split",
        "pairs.prepare",
        "pairs.store",
        "pairs.draws",
        "pairs.judged",
        "pairs.labels",
        "pairs.models",
        "pairs.begin",
        "pairs.terms",
    ],
    ["train.device", "train.progress", "train.predict"],
    ["pairs.lists"],
    ["train.engine"],
    ["pairs.fit", "pairs.teacher"],
    ["train.teachers"],
    ["train.students"],
    ["pairs.student"],
    [
        "score",
        "shipped",
        "bundle",
        "ship",
        "export",
        "evaluate",
        "pairs.sides",
        "pairs.vectors",
        "pairs.export",
        "pairs.evaluate",
    ],
    ["promotion.events", "promotion.log_copy", "promotion.alias", "promotion.log", "promotion.succession"],
    [
        "promotion.gates",
        "promotion.gate_table",
        "promotion.registry",
        "pairs.against",
        "promotion.last_good",
        "promotion.by_hand",
        "promotion.seeds",
        "promotion.slices",
        "tracking",
        "result",
        "report",
        "serve",
        "score_file",
    ],
    [
        "promotion.against",
        "promotion.boot",
        "promotion.policy",
        "promotion.decide",
        "promotion.promote",
        "promotion.lineage",
        "promotion.explain",
    ],
    ["pipeline"],
    ["compare", "monitor", "windows"],
    ["plan", "trace", "search", "promotion.reproduce", "api"],
    ["retention", "stack"],
    ["cli", "doctor", "flows"],
    ["__main__"],
]
TYPES_ONLY = "for type checkers only"
HOMES = {
    "torchrec": {
        "models.embed": "",
        "train.teachers.optimisers": "",
        "train.teachers.placement": "",
        "train.teachers.shard": "",
        "doctor": "",
    },
    "fbgemm_gpu": {"doctor": ""},
    "mlflow": {
        "promotion.registry": "",
        "promotion.alias": "",
        "promotion.log": "",
        "promotion.succession": TYPES_ONLY,
        "promotion.decide": TYPES_ONLY,
        "monitor.drifted": TYPES_ONLY,
        "promotion.seeds": TYPES_ONLY,
        "promotion.lineage": TYPES_ONLY,
        "promotion.explain": TYPES_ONLY,
        "ship.as_mlflow": "",
        "tracking": "",
        "retention": "",
        "doctor": "",
    },
    "optuna": {"search": "", "compare.tune": ""},
    "prefect": {"flows": "", "doctor": ""},
    "onnxruntime": {"bundle": "", "serve": "", "doctor": ""},
    "typer": {"cli": "", "flows": ""},
}
UNPICKLERS = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}


def name_of(path):
    """models/teacher.py -> "models.teacher"; flows/retrain.py -> "flows.retrain"."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = parts[1:] if parts[0] == "recdistill" else parts
    return ".".join(parts).removesuffix(".__init__")


SOURCES = {
    name_of(path): ast.parse(path.read_text(), str(path))
    for package in PACKAGES
    for path in sorted((ROOT / package).rglob("*.py"))
    if path != ROOT / "recdistill/__init__.py"
}


def under(name, home):
    return name == home or name.startswith(f"{home}.")


def layer_of(name):
    found = [place for place, names in enumerate(LAYERS) if any(under(name, home) for home in names)]
    assert len(found) == 1, f"{name}: wanted it in one group of LAYERS, found {len(found)}; say where it belongs"
    return found[0]


def for_types_only(tree):
    """The imports that stand under `if TYPE_CHECKING:`."""
    guards = [n for n in ast.walk(tree) if isinstance(n, ast.If) and ast.unparse(n.test).endswith("TYPE_CHECKING")]
    return {id(node) for guard in guards for statement in guard.body for node in ast.walk(statement)}


def imported(tree):
    """(full name, whether it is for type checkers only) of every import, anywhere in a module."""
    typed = for_types_only(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, id(node) in typed) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"line {node.lineno}: a relative import, which code.imports does not follow"
            yield from ((f"{node.module}.{alias.name}", id(node) in typed) for alias in node.names)


def own_imports(name):
    """The modules of this project that a module imports."""
    found = set()
    for full, _ in imported(SOURCES[name]):
        full = full.removeprefix("recdistill.")
        # from a.b import c: c is a module, or a name in the module a.b
        found |= {
            candidate
            for candidate in (full, full.rpartition(".")[0])
            if candidate in SOURCES and SOURCES[candidate].body
        }
    return found - {name}


def calls(name):
    return [node for node in ast.walk(SOURCES[name]) if isinstance(node, ast.Call)]


MODULES = sorted(name for name, tree in SOURCES.items() if tree.body)
each_module = pytest.mark.parametrize("name", MODULES)


def test_there_are_modules_and_they_import_one_another():
    assert len(MODULES) >= 45
    assert sum(len(own_imports(name)) for name in MODULES) >= 100
    assert {"config.run", "problems"} <= own_imports("config.load")
    assert "data.prepare" in own_imports("pipeline")  # from recdistill.data import prepare


@each_module
def test_imports_go_one_way(name):
    wrong = [other for other in own_imports(name) if layer_of(other) > layer_of(name)]
    assert wrong == [], f"{name} is below them"


def test_no_module_imports_itself_by_a_detour():
    done, path = set(), []

    def visit(name):
        assert name not in path, " -> ".join([*path[path.index(name) :], name])
        if name not in done:
            path.append(name)
            for other in sorted(own_imports(name)):
                visit(other)
            path.pop()
            done.add(name)

    for name in MODULES:
        visit(name)
    assert done >= set(MODULES)


def test_a_result_is_read_with_config_files_and_metrics_alone():
    assert own_imports("result") <= {"config.run", "files", "metrics.bootstrap", "metrics.measure", "problems"}


@pytest.mark.parametrize("package", HOMES)
def test_a_heavy_package_stays_at_home(package):
    users = {
        name: all(typed for full, typed in imported(tree) if under(full, package))
        for name, tree in SOURCES.items()
        if any(under(full, package) for full, _ in imported(tree))
    }
    assert users, f"nobody imports {package}: drop it from HOMES"
    for name, types_only in users.items():
        homes = [home for home in HOMES[package] if under(name, home)]
        assert homes, f"{name} imports {package}, whose homes are {', '.join(HOMES[package])}"
        assert types_only or HOMES[package][homes[0]] != TYPES_ONLY, f"{name}: only the types of {package}"


@each_module
def test_nothing_unpickles_or_runs_what_it_reads(name):
    assert [full for full, _ in imported(SOURCES[name]) if full.partition(".")[0] in UNPICKLERS] == []
    classes = {
        n.name: [ast.unparse(b) for b in n.bases] for n in ast.walk(SOURCES[name]) if isinstance(n, ast.ClassDef)
    }
    safe = {"yaml.SafeLoader", *(own for own, bases in classes.items() if bases == ["yaml.SafeLoader"])}
    for call in calls(name):
        function, line = ast.unparse(call.func), f"{name}: line {call.lineno}"
        keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        assert function not in ("eval", "exec", "torch.load", "yaml.unsafe_load", "yaml.full_load"), line
        assert keywords.get("allow_pickle", "False") == "False", line
        assert keywords.get("shell", "False") == "False", line
        if function in ("yaml.load", "yaml.load_all"):
            loader = keywords.get("Loader") or ast.unparse(call.args[1])
            assert loader in safe, line


def test_the_checks_of_calls_see_the_calls_there_are():
    found = {ast.unparse(call.func) for name in MODULES for call in calls(name)}
    assert {"yaml.load", "np.load", "safetensors.torch.load_file"} <= found


@each_module
def test_only_the_command_line_prints(name):
    printing = [call.lineno for call in calls(name) if ast.unparse(call.func) == "print"]
    assert not printing or any(under(name, home) for home in ("cli", "doctor", "flows")), printing


@each_module
def test_a_module_says_in_its_first_line_what_it_is(name):
    text = ast.get_docstring(SOURCES[name])
    assert text
    assert len(text.splitlines()[0]) <= 120
