"""The feature policy: which denied columns a bundle asks for, keeps or reads."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from recdistill.bundle import Bundle
from recdistill.data.columns import HISTORY
from recdistill.data.encoder import Encoder


def denied_of(bundle: Bundle, patterns: Sequence[str]) -> list[str]:
    """The names among a bundle's that match a pattern, sorted: of request columns, features, sources, graph inputs.

    What the bundle fills in by a key counts, and so does a feature under another name than its column's. A feature that
    feeds the teacher only (serve: never) is not asked for, and is absent in every request.
    """
    encoder, features = bundle.encoder, bundle.encoder.features
    names = {*encoder.needed, *(node.name for node in bundle.session.get_inputs())}
    names |= {name for served in encoder.served.values() for name in served.names}
    names |= {column for found in encoder.layout.ids for column in _columns(encoder, found.name)}
    for spec in features.aggregates:
        names |= set() if spec.serve == "never" else {*spec.by, *filter(None, [spec.of])}
    if features.history is not None and features.history.per is not None:
        names.add(features.history.per)
    names |= {name.removeprefix(HISTORY) for name in names}
    return sorted(name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns))


def _columns(encoder: Encoder, name: str) -> set[str]:
    """The feature itself and the columns that it is made of; none for what feeds the teacher only."""
    if name in encoder.features.privileged:
        return set()
    source = encoder.sources.get(name) or encoder.sources.get(name.removeprefix(HISTORY))
    return {name} if source is None else {name, *source.columns}
