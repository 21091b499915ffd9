"""The export step of pairs: every student and control as a bundle, refused unless raw pairs score as in training."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from recdistill.bundle import CARD, FORMAT, GRAPH, ITEM_GRAPH, USER_GRAPH, bundle_digest, open_bundle
from recdistill.config.run import Run
from recdistill.data.encoder import Encoder
from recdistill.data.store import open_rows
from recdistill.files import read_json, whole_folder, write_json
from recdistill.pairs.log import open_positives, read_positives
from recdistill.pairs.models import MatrixFactorisation
from recdistill.pairs.student import open_vectors
from recdistill.pairs.vectors import write_vectors
from recdistill.problems import BadInput, problem
from recdistill.ship.golden import write_golden
from recdistill.ship.onnx_graph import Reading, to_onnx, write_graph
from recdistill.ship.parity import NUM_REPLAYED, Replayed, difference, logits_of
from recdistill.ship.request_schema import REQUEST, request_schema
from recdistill.ship.write_bundle import bundle_bytes, bundle_name
from recdistill.train.device import ready_process
from recdistill.train.progress import logger
from recdistill.train.students.student import ARMS


def export(run: Run, inputs: Mapping[str, Path], out: Path) -> None:
    """Write ARM-SEED/ bundles and export.json with the largest difference between torch and bundle on raw pairs."""
    ready_process(run.threads)
    encoder = Encoder.open(inputs["prepare"] / "encoder")
    replayed = replayed_pairs(run, inputs["prepare"], encoder)
    students = read_json(inputs["distil"] / "students.json")
    shipped = bundle_name("student", students["shipped"])
    differences: dict[str, float] = {}
    digests: dict[str, str] = {}
    about: dict[str, Any] = {}
    for arm in ARMS:
        for number in range(run.student.seeds):
            name, model = bundle_name(arm, number), open_vectors(inputs["distil"], arm, number)
            text = _card(run, name, model, read_json(inputs["prepare"] / "data.json"))
            _write(run, model, encoder, inputs["prepare"] / "encoder", replayed, text, out / name)
            differences[name] = difference(model, open_bundle(out / name), replayed)
            digests[name] = bundle_digest(out / name)
            if name == shipped:
                about = {"tables": _sizes(model), "float_tables": _sizes(model), "quantised": None}
    about |= {"shipped": shipped, "bundle_sha256": digests[shipped], **bundle_bytes(out / shipped)}
    about |= {"replayed_rows": len(replayed.ids), "max_difference": max(differences.values())}
    text = "export: %d bundles, %s ships (%s bytes); largest difference from torch on %d raw pairs: %.1e"
    logger.info(text, len(digests), shipped, f"{about['bytes']:,}", about["replayed_rows"], about["max_difference"])
    write_json(out / "export.json", {**about, "differences": differences, "digests": digests})


def replayed_pairs(run: Run, prepared: Path, encoder: Encoder) -> Replayed:
    """Raw pairs of the test window, read from the log again. BadInput where they encode unlike the store's."""
    rows = open_rows(prepared, "test", encoder.layout)
    index = np.sort(np.random.default_rng(run.seed).permutation(len(rows))[:NUM_REPLAYED])
    every = read_positives(run, open_positives(run))
    order = np.argsort(every.row_id)
    place = order[np.searchsorted(every.row_id[order], rows["row_id"][index])]
    sides = ((every.user_values, every.user), (every.item_values, every.item))
    columns = [values.take(pa.array(numbers[place])) for values, numbers in sides]
    requests = pa.table(columns, names=[feature.name for feature in encoder.layout.ids])
    ids, dense = encoder.request(requests)
    if (ids != rows.ids(index)).any():
        found, remedy = "others", "report it: training and serving see different ids"
        raise BadInput(problem("export: raw pairs", wanted="the ids that were trained on", found=found, remedy=remedy))
    return Replayed(requests=requests, ids=ids.astype(np.int64), dense=dense)


def _write(
    run: Run,
    model: MatrixFactorisation,
    encoder: Encoder,
    encoder_folder: Path,
    replayed: Replayed,
    text: str,
    final: Path,
) -> None:
    """The graphs and the vectors in the layout of every bundle."""
    requests = replayed.requests.slice(0, run.export.golden)
    columns = {name: str(requests.schema.field(name).type) for name in encoder.needed}
    about = {"format": FORMAT, "encoder": encoder.digest, "request": columns, "output": "logit"}
    with whole_folder(final, about) as folder, torch.inference_mode():
        shutil.copytree(encoder_folder, folder / "encoder")
        to_onnx(model, encoder.layout, folder / GRAPH)
        write_graph(Reading(model, model.user_vector), encoder.layout, folder / USER_GRAPH, "vector")
        write_graph(Reading(model, model.item_vector), encoder.layout, folder / ITEM_GRAPH, "vector")
        write_json(folder / REQUEST, request_schema(requests.schema))
        write_golden(requests, logits_of(model, replayed)[: requests.num_rows], folder)
        write_vectors(model, encoder, folder)
        (folder / CARD).write_text(text)


def _sizes(model: MatrixFactorisation) -> dict[str, dict[str, int]]:
    tables = {"user": model.user, "item": model.item}
    return {name: {"parameters": t.numel(), "bytes": t.numel() * t.element_size()} for name, t in tables.items()}


def _card(run: Run, title: str, model: MatrixFactorisation, data: Mapping[str, Any]) -> str:
    """The model card: what it is, from which data and how large, the same for the same run."""
    assert run.data.pairs is not None
    users, items, width = data["num_users"], data["num_items"], model.user.shape[1]
    terms = ", ".join(f"{term.weight} {term.use}" for term in run.recipe.terms)
    windows = ", ".join(f"{name} {data[name]['rows']:,}" for name in ("train", "valid", "test"))
    lines = [
        f"# {run.name}: {title}",
        "",
        f"Vectors of {users:,} users and {items:,} items, {width} wide; a logit is their product and only ranks.",
        f"Pairs by window (split: {run.data.pairs.split}): {windows}. Fingerprint `{data['fingerprint']}`.",
        f"Trained by the recipe: {terms}, label.bce being {run.student.pairs.loss}.",
        "An unknown user or item has the logit 0. golden.arrow and the vectors hold users of the log: treat them so.",
        "",
    ]
    return "\n".join(lines)
