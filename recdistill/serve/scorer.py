"""Scores of a request's candidates in this process: raw values in, logits out, as fast as the graph allows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from recdistill.bundle import GRAPH, open_bundle
from recdistill.files import manifest
from recdistill.serve.forms import Form, Forms
from recdistill.serve.nearest import By, Nearest
from recdistill.serve.plan import Planner
from recdistill.serve.split import ITEM
from recdistill.serve.values import refused

Floats = NDArray[np.float32]
Ids = NDArray[np.int64]
Values = Mapping[str, Any]
_ROWS = 1024  # of a batch that are scored together: their vectors and layers fit the caches


class NotFinite(ArithmeticError):
    """A model that answers NaN or infinity, for these candidates at least."""


class Scorer:
    """A bundle that scores requests.

    A request is `user`: column -> value, what is equal for all its candidates, histories as lists, oldest first;
    `items`: the candidates' keys, whose features the scorer knows; `candidates`: column -> as many values as there
    are candidates, for what it does not know or what is to be said anew. A column counts where it is first found, in
    this order: candidates, user, items. Any number of threads may score at once.
    """

    def __init__(self, folder: Path, items: pa.Table | None = None, item_key: str | None = None) -> None:
        """items: a row a key, its columns beside what the bundle knows. BadInput for a bundle or a table unfit."""
        bundle = open_bundle(folder)
        self.folder, self.digest, self.encoder = folder, bundle.digest, bundle.encoder
        about = manifest(folder)
        assert about is not None
        planner = Planner(folder / GRAPH, bundle.encoder.layout, bundle.session)
        self.forms = Forms(bundle.encoder, about["request"], planner, items, item_key)
        if self.forms.items is not None:
            self.forms.warm(frozenset(self.forms.request).difference(self.item_columns))

    @property
    def about(self) -> dict[str, Any]:
        """What it serves and how: digest, items, bytes of the tables and of what is kept per item, graphs not split."""
        items, planner = self.forms.items, self.forms.planner
        return {
            "digest": self.digest,
            "item_key": None if items is None else items.key,
            "num_items": 0 if items is None else items.known.unknown,
            "table_bytes": sum(value.nbytes for value in planner.tables.arrays.values()),
            "item_cache_bytes": sum(value.nbytes for value in planner.kept.values()),
            "not_split": sorted(self.forms.reasons),
        }

    @property
    def item_columns(self) -> list[str]:
        """The columns of a request that belong to a candidate, as far as the bundle tells: never none."""
        known = set() if self.forms.items is None else set(self.forms.items.known.names)
        return [name for name in self.forms.request if name in known] or list(self.forms.request)

    def score(self, user: Values, items: Any = None, candidates: Values | None = None) -> Floats:
        """[C] logits, in the order of the candidates. BadInput names every column that is missing, unknown or wrong.

        Raises NotFinite where the model answers with no number.
        """
        given = {} if candidates is None else candidates
        form = self.forms.form(frozenset(user), frozenset(given), items is not None)
        known = self.forms.items
        places = None
        if form.with_items:
            assert known is not None
            keys = given[known.key] if items is None else items
            places = known.known.places(_present(known.key, keys))
            if not known.exact and (places == known.known.unknown).any():
                spelled = {name: known.known.column(name, places) for name in known.known.names if name not in user}
                return self.score(user, None, {**spelled, known.key: keys, **given})
        elif known is not None and known.key in given:
            _present(known.key, given[known.key])
        num_rows = _num_rows(places, given)
        if num_rows == 0:
            return np.zeros(0, dtype=np.float32)
        return _finite(form.run(self._matrices(form, user, given, places, num_rows)))

    def rows(self, batch: pa.RecordBatch) -> Floats:
        """Logits of whole rows, each a user with a candidate; an item may be null. As `score` otherwise.

        Where the rows of a user follow each other, what is of the user is computed once for all of them.
        """
        form = self.forms.form(frozenset(), frozenset(batch.schema.names), False)
        logit, plan = np.empty(len(batch), dtype=np.float32), None
        for start in range(0, len(batch), _ROWS):
            part = batch.slice(start, _ROWS)
            given = self._matrices(form, {}, dict(zip(part.schema.names, part.columns, strict=True)), None, len(part))
            if plan is None:
                plan = self.forms.by_runs(form, given) if len(batch) > _ROWS else form.plan
            logit[start : start + len(part)] = plan.run(given)
        return _finite(logit)

    def top(self, k: int, user: Values, items: Any = None, candidates: Values | None = None) -> tuple[Ids, Floats]:
        """(places [k] among the candidates, logits [k]) of the best, best first; equal ones in the order given."""
        logit = self.score(user, items, candidates)
        best = np.argsort(-logit, kind="stable")[:k]
        return best, logit[best]

    def nearest(self, k: int, user: Any, *, by: By = "exact", without: Sequence[Any] = ()) -> tuple[pa.Array, Floats]:
        """([k] items, [k] logits) of all that the bundle of a run of pairs knows; see Nearest.top."""
        return self._nearest.top(k, user, by=by, without=without)

    @cached_property
    def _nearest(self) -> Nearest:
        return Nearest(self.folder)

    def _matrices(
        self, form: Form, user: Values, given: Values, places: Ids | None, num_rows: int
    ) -> dict[str, NDArray[Any]]:
        layout = self.encoder.layout
        if form.filled_once:
            user = {**user, **{name: table.value(name, user[table.key]) for name, table in form.filled_once}}
        row = [0] * layout.num_id_columns
        for column, name, one in form.once_plain:
            row[column] = one(name, user[name])
        for columns, reader in form.once_ids:
            row[columns] = reader.once(user)
        once_ids = np.array([row], dtype=np.int64)
        once_dense = np.zeros((1, len(layout.dense)), dtype=np.float32)
        for place, number in form.once_dense:
            once_dense[0, place] = number.once(user)
        made: dict[str, NDArray[Any]] = {"once_ids": once_ids, "once_dense": once_dense}
        made[ITEM] = np.zeros(num_rows, np.int64) if places is None else places
        if form.reads_each:
            made |= self._each(form, made, self._values(form, user, given, places, num_rows), places, num_rows)
        for name in ("once_ids", "ids"):
            if name in made and (made[name].view(np.uint64) >= self.forms.limits).any():
                raise AssertionError("an id outside its table")  # the graph would answer with another row's vector
        return made

    def _values(self, form: Form, user: Values, given: Values, places: Ids | None, num_rows: int) -> Values:
        """Columns of as many values as there are candidates."""
        if not (form.filled_each or form.repeated or form.borrowed):
            return given
        values = dict(given)
        items = self.forms.items
        if items is not None and places is not None:
            values |= {name: items.known.column(name, places) for name in form.borrowed}
        values |= {name: [user[name]] * num_rows for name in form.repeated}
        return values | {name: table.column(name, table.places(values[table.key])) for name, table in form.filled_each}

    def _each(
        self, form: Form, made: dict[str, NDArray[Any]], values: Values, places: Ids | None, num_rows: int
    ) -> dict[str, NDArray[Any]]:
        layout, items = self.encoder.layout, self.forms.items
        ids = np.zeros((num_rows, layout.num_id_columns), dtype=np.int64)
        dense = np.zeros((num_rows, len(layout.dense)), dtype=np.float32)
        for column in form.repeated_ids:
            ids[:, column] = made["once_ids"][0, column]
        for column in form.repeated_dense:
            dense[:, column] = made["once_dense"][0, column]
        if items is not None and places is not None:
            for column, source in form.item_ids:
                ids[:, column] = items.ids[places, source]
            for column, source in form.item_dense:
                dense[:, column] = items.dense[places, source]
        if form.together is not None:
            form.together.read(values, ids)
        for reader in form.each_ids:
            ids[:, reader.feature.columns] = _as_many(reader.name, reader.each(values, num_rows), num_rows)
        for place, number in form.each_dense:
            dense[:, place] = _as_many(number.name, number.each(values), num_rows)
        return {"ids": ids, "dense": dense}


def _finite(logit: Floats) -> Floats:
    if not np.isfinite(logit).all():
        raise NotFinite(f"{int((~np.isfinite(logit)).sum())} of {len(logit)} scores are no numbers")
    return logit


def _present(key: str, keys: Any) -> Any:
    """The keys. BadInput where one is null: any other column may be unknown, but a candidate is some item."""
    missing = keys.null_count > 0 if isinstance(keys, pa.Array | pa.ChunkedArray) else None in _plain(keys)
    if missing:
        raise refused(key, "an item for each candidate", "null")
    return keys


def _plain(keys: Any) -> Any:
    return () if isinstance(keys, np.ndarray) and keys.dtype != object else keys


def _as_many(name: str, found: NDArray[Any], num_rows: int) -> NDArray[Any]:
    if len(found) != num_rows:
        raise refused(name, f"{num_rows} values", str(len(found)))
    return found


def _num_rows(places: Ids | None, given: Values) -> int:
    if places is not None:
        return len(places)
    return len(next(iter(given.values())))
