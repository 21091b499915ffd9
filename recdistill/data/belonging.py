"""What belongs to the item in a record, by the columns that features are read from: what goes along to another item."""

from __future__ import annotations

from dataclasses import dataclass

from recdistill.config.run import Run
from recdistill.problems import BadInput, problem
from recdistill.types import Layout


@dataclass(frozen=True, slots=True, kw_only=True)
class Belonging:
    """What belongs to an item in a record. item: the column of ids that says which it is. ids, dense: its columns."""

    item: int
    ids: tuple[int, ...]
    dense: tuple[int, ...]


def belonging(run: Run, layout: Layout) -> Belonging:
    """By the columns that features are read from. BadInput for what the config leaves open.

    A feature of the item's columns alone is the item's, one of none of them the request's; one of both has no value
    that was ever known for the pair.
    """
    settings, title, features = run.score.candidates, item_feature(run), run.features
    assert settings is not None
    target = next((f for f in layout.pooled if f.name == title and f.kind == "single"), None)
    if target is None:
        remedy = "name one in score.candidates.item"
        where = "score.candidates.item"
        raise BadInput(problem(where, wanted="an id feature of one value a row", found=str(title), remedy=remedy))
    own = _own_columns(run, str(title))
    read = {spec.title: set(spec.columns) for spec in features.ids}
    read |= {spec.title: {spec.column} for spec in features.dense}
    read |= {spec.title: set(spec.by) for spec in features.aggregates}
    both = [name for name, columns in read.items() if columns & own and columns - own]
    if both:
        remedy = "leave it out, or do without score.candidates"
        wanted = "features of the item alone or of the request alone"
        raise BadInput(
            [problem(f"score.candidates: {name}", wanted=wanted, found="both", remedy=remedy) for name in both]
        )
    ids = [f.columns for f in layout.pooled if read[f.name] and read[f.name] <= own]
    places = tuple(place for columns in ids for place in range(columns.start, columns.stop))
    dense = tuple(place for place, name in enumerate(layout.dense) if read[name] <= own)
    return Belonging(item=target.start, ids=places, dense=dense)


def item_feature(run: Run) -> str | None:
    """The id feature of what is ranked; None where nothing tells."""
    settings, features = run.score.candidates, run.features
    assert settings is not None
    column = run.data.negatives.item if run.data.negatives is not None else None
    of_column = next((spec.title for spec in features.ids if spec.column is not None and spec.column == column), None)
    return settings.item or of_column or (features.history.item if features.history is not None else None)


def _own_columns(run: Run, title: str) -> set[str]:
    """The item's column, and those that the config says go with it."""
    settings, negatives = run.score.candidates, run.data.negatives
    assert settings is not None
    own = {column for spec in run.features.ids if spec.title == title for column in spec.columns}
    keyed = {spec.column for spec in run.features.ids if spec.key in own and spec.column is not None}
    keyed |= {spec.column for spec in run.features.dense if spec.key in own}
    return own | keyed | {*settings.item_columns, *(negatives.item_columns if negatives else [])}
