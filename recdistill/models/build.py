"""A student as its section of the config says, with fresh weights from torch's generator."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from torch import Tensor

from recdistill.config.student import Student, TwoTower
from recdistill.models.student import StudentModel
from recdistill.models.two_tower import TwoTowerModel
from recdistill.types import Layout

Ranker = StudentModel | TwoTowerModel


def build(layout: Layout, settings: Student, without: Collection[str], counts: Mapping[str, Tensor]) -> Ranker:
    """without: features that it must not read. counts: table -> [V] look-ups, of settings.counted(layout.tables)."""
    tables = {name: settings.table_of(name) for name in layout.tables}
    if isinstance(settings.interaction, TwoTower):
        return TwoTowerModel(
            layout,
            width=settings.width,
            hidden=settings.tower,
            user=settings.interaction.user,
            vector=settings.interaction.width,
            without=without,
            history_length=settings.history_length,
            tables=tables,
            counts=counts,
        )
    return StudentModel(
        layout,
        width=settings.width,
        attention=settings.attention,
        hidden=settings.tower,
        without=without,
        history_length=settings.history_length,
        interaction=settings.interaction,
        tables=tables,
        counts=counts,
    )
