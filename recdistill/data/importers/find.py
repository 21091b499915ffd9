"""Import by name: a public log as published -> partitioned Parquet and a ready config, whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path
from textwrap import dedent, indent, wrap

from recdistill.data.importers import ali_ccp, avazu, criteo, kuairand, movielens, taobao
from recdistill.data.importers.archive import members
from recdistill.data.importers.lines import Faults
from recdistill.data.importers.partitions import TIME, Partitions
from recdistill.data.importers.tables import Importer, Ready
from recdistill.files import manifest, whole_folder
from recdistill.problems import BadInput, guess, problem

_ALL = (
    movielens.IMPORTER,
    criteo.KAGGLE,
    criteo.TERABYTE,
    avazu.IMPORTER,
    kuairand.IMPORTER,
    taobao.IMPORTER,
    ali_ccp.IMPORTER,
)
IMPORTERS = {importer.name: importer for importer in _ALL}
CONFIG = "config.yaml"
_MADE_BY = "recdistill import"
_FORMATS = {"day": "%Y-%m-%d", "month": "%Y-%m"}


def import_log(name: str, path: Path, out: Path) -> int:
    """Import the log at `path` into the folder `out`; returns the number of rows.

    `out` holds day=YYYY-MM-DD/part-N.parquet (month=YYYY-MM for logs that span years), config.yaml and _manifest.json.
    An import that is there already is replaced. BadInput with a line per problem, and nothing written, for an unknown
    name, files that are not those of the log, malformed lines, and an `out` that is something else.
    """
    importer = _importer(name)
    _check_out(out, path)
    found = members(path)
    faults = Faults()
    with whole_folder(out, {"made_by": f"{_MADE_BY} {name}"}) as unfinished:
        partitions = Partitions(unfinished, importer.length)
        ready = importer.load(path, found, partitions, faults)
        faults.end()
        if not partitions.num_rows:
            remedy = "give the log as its publisher ships it"
            raise BadInput(problem(str(path), wanted="rows", found="none", remedy=remedy))
        partitions.close()
        (unfinished / CONFIG).write_text(_config(importer, ready, out))
    return partitions.num_rows


def _importer(name: str) -> Importer:
    if name not in IMPORTERS:
        known = ", ".join(IMPORTERS)
        remedy = guess(name, list(IMPORTERS)) or "give one of these names"
        raise BadInput(problem("import", wanted=f"the name of a log ({known})", found=repr(name), remedy=remedy))
    return IMPORTERS[name]


def _check_out(out: Path, path: Path) -> None:
    made_by = str((manifest(out) or {}).get("made_by"))
    if (out.exists() or out.is_symlink()) and not made_by.startswith(_MADE_BY):
        remedy = "give a folder that does not exist"
        raise BadInput(problem(str(out), wanted="no folder, or an imported log", found="something else", remedy=remedy))
    if path.resolve().is_relative_to(out.resolve()):
        remedy = "give another folder, as this one is replaced"
        raise BadInput(problem(str(out), wanted="a folder without the source", found=str(path), remedy=remedy))


def _config(importer: Importer, ready: Ready, out: Path) -> str:
    source = json.dumps(out.as_posix())
    length = importer.length
    lines = [
        f"# recdistill run {out.as_posix()}/{CONFIG}",
        "#",
        *wrap(" ".join(ready.about.split()), 116, initial_indent="# ", subsequent_indent="# "),
        f"name: {importer.name}",
        "data:",
        f"  source: {source}",
        f'  partition: {{column: {length}, format: "{_FORMATS[length]}", length: {length}}}',
        f"  time: {TIME}",
        indent(dedent(ready.data).strip(), "  "),
        "features:",
        indent(dedent(ready.features).strip(), "  "),
    ]
    return "\n".join(lines) + "\n"
