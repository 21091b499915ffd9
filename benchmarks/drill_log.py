"""The log of the drill: made whole beside it, and added a day at a time, each at once and whole."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recdistill.data.synth.generate import World, synth

GLOBO = Path("../shared/data/globo")
_ROWS_A_DAY, _DAYS = 3000, 11
_ONE_READER_IN = 16  # a power of two

Poison = Callable[[pa.Table], pa.Table]


@dataclass(frozen=True, slots=True, kw_only=True)
class Days:
    """days: what arrives with each day of the week, as folders of `source`; the first brings a whole window."""

    source: Path
    log: Path
    days: tuple[tuple[str, ...], ...]
    poison: Poison

    def deliver(self, day: int, *, poisoned: bool = False) -> None:
        """Add a day to the log; a poisoned one holds garbage in place of its labels, or of what stands for them."""
        self.log.mkdir(parents=True, exist_ok=True)
        for name in self.days[day]:
            hidden = self.log / f".{name}"  # readers pass over it
            shutil.copytree(self.source / name, hidden)
            for path in hidden.glob("*.parquet") if poisoned else ():
                pq.write_table(self.poison(pq.read_table(path, partitioning=None)), path)
            hidden.rename(self.log / name)


def synth_days(folder: Path) -> Days:
    """Eleven days of a planted truth: five for the first window, one for each that follows."""
    source = folder / "all-days"
    synth(source, _ROWS_A_DAY * _DAYS, World(num_users=200, num_items=150, num_days=_DAYS, seed=3))
    names = [path.name for path in sorted(source.glob("day=*"))]
    days = (tuple(names[:5]), *((name,) for name in names[5:]))
    return Days(source=source, log=folder / "log", days=days, poison=_clicked)


def globo_days(folder: Path) -> Days:
    """Eight days of real clicks by the hour: two for the first window, one for each that follows."""
    source = folder / "all-days"
    by_day = [_by_hour(path, source) for path in sorted(GLOBO.glob("day=*/*.parquet"))]
    days = (tuple(by_day[0] + by_day[1]), *(tuple(names) for names in by_day[2:]))
    return Days(source=source, log=folder / "log", days=days, poison=_unknown_place)


def _by_hour(path: Path, source: Path) -> list[str]:
    """A folder for each hour of a day; one without clicks holds a file without rows, as its writer would leave."""
    table = pq.read_table(path, partitioning=None)
    table = table.filter(pc.equal(pc.bit_wise_and(table["user_id"].cast(pa.int64()), _ONE_READER_IN - 1), 0))
    hours = pc.strftime(table["click_time"], format="%Y-%m-%dT%H")
    names = []
    for number in range(24):
        hour = f"{path.parent.name.removeprefix('day=')}T{number:02d}"
        folder = source / f"hour={hour}"
        folder.mkdir(parents=True)
        pq.write_table(table.filter(pc.equal(hours, hour)), folder / "part-0.parquet")
        names.append(folder.name)
    return names


def _clicked(table: pa.Table) -> pa.Table:
    """Every label is 1, as after a broken join."""
    ones = pa.array([1] * table.num_rows, table["clicked"].type)
    return table.set_column(table.schema.get_field_index("clicked"), "clicked", ones)


def _unknown_place(table: pa.Table) -> pa.Table:
    """Every click comes from an environment that there is not."""
    name = "click_environment"
    return table.set_column(table.schema.get_field_index(name), name, pa.array([-1] * table.num_rows, table[name].type))
