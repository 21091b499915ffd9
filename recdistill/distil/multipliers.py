"""What a schedule returns: the weights, settings and trained parts of a recipe at one moment of the training."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Multipliers:
    """label: for terms that follow the labels. teacher: for terms that follow the teacher. Both >= 0.

    settings: values for the parameters of that name of every term and target, instead of the YAML's.
    trains: the numbers of the student's parts that learn now (0 the tables, 1.. the tower's layers, last the head);
    None for all.
    """

    label: float = 1.0
    teacher: float = 1.0
    settings: Mapping[str, float] = field(default_factory=dict)
    trains: frozenset[int] | None = None
