"""The one training loop: steps, checks on a validation window, early stopping; it knows neither teacher nor student."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from recdistill.config.training import Training
from recdistill.data.batches import Batches
from recdistill.problems import BadInput, problem
from recdistill.train.engine.checkpoint import Snapshots
from recdistill.train.engine.course import Check, Course, Trained, Weights
from recdistill.train.engine.guards import LOOK, REMEDY, Broken, Guard, not_finite
from recdistill.train.engine.kept import InMemory
from recdistill.train.engine.meter import Meter
from recdistill.train.engine.pieces import pieces
from recdistill.train.engine.progressive import Progressive
from recdistill.train.engine.ranks import Turn, of_first, turns
from recdistill.train.engine.state import State
from recdistill.train.engine.stop import Stop
from recdistill.train.engine.update import Update
from recdistill.train.engine.watchdog import Watchdog
from recdistill.train.progress import bar, curves, logger
from recdistill.types import Batch

Losses = Callable[[Batch, float], Mapping[str, Tensor]]


def train(
    title: str,
    settings: Training,
    batches: Batches,
    *,
    losses: Losses,
    optimisers: Sequence[torch.optim.Optimizer],
    valid_auc: Callable[[], float],
    weights: Callable[[], Weights],
    snapshots: Snapshots | None = None,
    progressive: Progressive | None = None,
    measure: str = "auc",
) -> Trained:
    """Minimise losses(batch, progress)["loss"]; progress runs from 0 to 1 over all epochs.

    optimisers: the first is of the dense layers, any others of tables, those of TorchRec's fused kind among them.
    weights() is called at every check that is the best so far and must return copies; with snapshots it is not asked.
    snapshots: what to go on from and back to. progressive: given to train in one pass; `losses` feeds it.
    measure: what valid_auc takes, for the log.
    BadInput where training breaks and cannot go back: weights that are not finite are never returned.
    """
    course = Course(settings, batches.num_rows, one_pass=progressive is not None)
    update, meter = Update(settings, optimisers), Meter(batches.world)
    state = State(course=course, update=update, meter=meter, progressive=progressive)
    guard = Guard(title, update.dense, batches.world)
    keeper = InMemory(weights) if snapshots is None else snapshots
    stacks = None if snapshots is None else snapshots.folder.parent.with_name(f"stacks-{batches.rank}.txt")
    try:
        with (
            Watchdog(stacks, settings.step_timeout_s) as dog,
            Stop(batches.world) as stop,
            bar(title, settings.epochs * course.num_rows) as shown,
        ):
            if keeper.restore(state):
                logger.info("%s: goes on from step %d, epoch %.4g", title, course.step, course.epochs)
            shown.advance(int(course.epochs * course.num_rows))
            guard.forget()
            coming = turns(batches, course.position)
            while not course.over:
                turn = next(coming)
                named = losses(turn.batch, course.progress)
                update(named["loss"] * turn.share, course.progress, course.scale)
                is_check = course.did(turn.position, turn.num_rows)
                _note(course, meter, guard, named, turn)
                is_last = stop.asked(course.step)
                is_snapshot = keeper.due(course.step) or is_last
                try:
                    if is_check or is_snapshot or course.step % LOOK == 0:
                        guard.look()
                        shown.advance(
                            meter.take() * batches.world, loss=meter.mean("loss"), rows_per_s=meter.rows_per_s
                        )
                    if is_check:
                        _check(title, state, keeper, valid_auc, measure)
                    if is_snapshot:
                        keeper.save(state)
                except Broken as broken:
                    _rewind(broken, title, state, keeper)
                    guard.forget()
                    coming = turns(batches, course.position)
                dog.beat()
                if is_last:
                    keeper.wait()
                    stop.go()
            return _trained(title, state, keeper)
    finally:
        keeper.close()


def _note(course: Course, meter: Meter, guard: Guard, named: Mapping[str, Tensor], turn: Turn) -> None:
    meter.add(named, len(turn.batch) if turn.share else 0)
    if turn.share:
        guard.note(course.step, named["loss"], turn.batch)


def _check(
    title: str, state: State, keeper: InMemory | Snapshots, valid_auc: Callable[[], float], measure: str
) -> None:
    """Take the validation AUC and keep the weights where they are to be kept."""
    course, meter = state.course, state.meter
    with state.update.averaged():
        check = Check(
            epoch=round(course.epochs, 4),
            step=course.step,
            valid_auc=of_first(valid_auc(), meter.world),
            losses=meter.means(),
            rows_per_s=meter.rows_per_s * meter.world,
            seconds=course.seconds,
            progressive_auc=None if state.progressive is None else state.progressive.take(),
        )
        if not all(map(math.isfinite, check.losses.values())):
            raise Broken(f"{title}: step {course.step}", wanted="finite losses", found=str(check.losses))
        if wanted := course.checked(check):
            course.kept = keeper.keep(course.step)
    meter.reset()
    _say(title, course, check, kept=wanted, measure=measure)
    curves.info(title, extra={"check": check})


def _rewind(broken: Broken, title: str, state: State, keeper: InMemory | Snapshots) -> None:
    """Back to the last snapshot, with half the learning rates. BadInput where there is none, or too often."""
    course = state.course
    step, rewinds, scale = course.step, course.rewinds + 1, course.scale / 2
    if rewinds > course.settings.max_rewinds or not keeper.restore(state):
        raise BadInput(broken.problem)
    course.rewinds, course.scale = rewinds, scale
    logger.warning("%s; back from step %d to %d, learning rates times %g", broken.problem, step, course.step, scale)
    keeper.save(state)


def _trained(title: str, state: State, keeper: InMemory | Snapshots) -> Trained:
    course = state.course
    weights = None if course.kept is None else keeper.kept(course.kept)
    broken = not_finite(pieces(weights or {}))
    if broken or weights is None or not any(math.isfinite(check.valid_auc) for check in course.curve):
        found = f"others in {'; '.join(broken)}" if broken else "no AUC at any check"
        raise BadInput(problem(title, wanted="weights of finite numbers", found=found, remedy=REMEDY))
    return Trained(
        weights=weights,
        curve=tuple(course.curve),
        one_pass=course.one_pass,
        rewinds=course.rewinds,
        snapshots=keeper.folder,
    )


def _say(title: str, course: Course, check: Check, *, kept: bool, measure: str) -> None:
    parts = [f"{name} {value:.4f}" for name, value in check.losses.items()]
    parts += [] if check.progressive_auc is None else [f"progressive auc {check.progressive_auc:.4f}"]
    logger.info(
        "%s: epoch %.4g of %d, %s, valid %s %.4f%s, %s rows/s, %.0f s",
        title,
        check.epoch,
        course.settings.epochs,
        ", ".join(parts),
        measure,
        check.valid_auc,
        " (best)" if kept else "",
        f"{check.rows_per_s:,.0f}",
        check.seconds,
    )
