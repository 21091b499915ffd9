"""The student section of a run: what the student is made of and how it is trained."""

from __future__ import annotations

from recdistill.config_training import Training
from recdistill.sections import Count, Positive


class Student(Training):
    learning_rate: Positive = 3e-3
    embedding_learning_rate: Positive = 0.1
    width: Count = 4
    attention: Count = 16
    tower: list[Count] = [64, 32]
    history_length: Count | None = None
    """How much of the history it looks at; None takes all of it."""
    without: list[str] = []
    """Features that the student does not read, beside those that cannot be had when serving."""
    seeds: Count = 3
    """How many students, and as many controls, are trained; the best on the validation window ships."""
