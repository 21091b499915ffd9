"""The export step: every student and control as a bundle, refused unless raw rows score as in training."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recdistill.bundle import bundle_digest, open_bundle
from recdistill.config.run import Run
from recdistill.data.encoder import Encoder
from recdistill.data.store import open_rows
from recdistill.files import read_json, write_json
from recdistill.models.build import Ranker
from recdistill.ship.card import Facts, card
from recdistill.ship.cost import cost
from recdistill.ship.parity import Replayed, difference, replayed_rows
from recdistill.ship.quantise import quantise, refuse_not_finite, sizes, table_bits
from recdistill.ship.write_bundle import bundle_bytes, bundle_name, write_bundle
from recdistill.train.device import ready_process
from recdistill.train.progress import logger
from recdistill.train.students.student import ARMS, Arm, open_student


def export(run: Run, inputs: Mapping[str, Path], out: Path) -> None:
    """Write ARM-SEED/ bundles and export.json with the largest difference between torch and bundle on raw rows."""
    ready_process(run.threads)
    encoder = Encoder.open(inputs["prepare"] / "encoder")
    replayed = replayed_rows(run, inputs, encoder)
    students = read_json(inputs["distil"] / "students.json")
    shipped = bundle_name("student", students["shipped"])
    differences: dict[str, float] = {}
    digests: dict[str, str] = {}
    about: dict[str, Any] = {}
    for arm in ARMS:
        for number in range(run.student.seeds):
            name = bundle_name(arm, number)
            whole = open_student(run, encoder.layout, inputs["distil"], arm, number)
            refuse_not_finite(whole, name)
            small = quantise(whole, table_bits(run, whole.tables))
            found = None
            if name == shipped:
                found = cost(run, inputs, encoder, whole, small, replayed) if small is not whole else None
                about = {"tables": sizes(small), "float_tables": sizes(whole), "quantised": found}
            facts = Facts(
                name=run.name,
                title=name,
                layout=encoder.layout,
                data=read_json(inputs["prepare"] / "data.json"),
                sizes=sizes(small),
                float_sizes=sizes(whole),
                valid_auc=_best(students, arm, number),
                quality=found,
                recipe=run.recipe.model_dump(mode="json"),
            )
            _write(run, inputs, encoder, small, replayed, card(facts), out / name)
            differences[name] = difference(small, open_bundle(out / name), replayed)
            digests[name] = bundle_digest(out / name)
    about |= {"shipped": shipped, "bundle_sha256": digests[shipped], **bundle_bytes(out / shipped)}
    about |= {"replayed_rows": len(replayed.ids), "max_difference": max(differences.values())}
    _log(about, len(digests))
    write_json(out / "export.json", {**about, "differences": differences, "digests": digests})


def _best(students: Mapping[str, Any], arm: Arm, number: int) -> float:
    return max(float(check["valid_auc"]) for check in students["curves"][arm][number])


def _log(about: Mapping[str, Any], num_bundles: int) -> None:
    text = "export: %d bundles, %s ships (%s bytes, its graph %s); largest difference from torch on %d raw rows: %.1e"
    size, graph = f"{about['bytes']:,}", f"{about['graph_bytes']:,}"
    logger.info(text, num_bundles, about["shipped"], size, graph, about["replayed_rows"], about["max_difference"])
    for name, found in about["tables"].items():
        logger.info("export: %s: %s parameters, %s bytes", name, f"{found['parameters']:,}", f"{found['bytes']:,}")


def _write(
    run: Run, inputs: Mapping[str, Path], encoder: Encoder, student: Ranker, replayed: Replayed, text: str, final: Path
) -> None:
    write_bundle(
        student,
        inputs["prepare"] / "encoder",
        encoder,
        replayed.requests.schema,
        final,
        golden=replayed.requests.slice(0, run.export.golden),
        text=text,
        train=open_rows(inputs["prepare"], "train", encoder.layout),
    )
