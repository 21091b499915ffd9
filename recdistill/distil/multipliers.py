"""What a schedule returns: by how much the terms of a recipe are multiplied at one moment of the training."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Multipliers:
    """label: for terms that follow the labels. teacher: for terms that follow the teacher. Both >= 0."""

    label: float = 1.0
    teacher: float = 1.0
