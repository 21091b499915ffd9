"""Who asks when in a generated log: a day's requests in order of time, in sessions that never overlap for a user."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SLOTS_PER_DAY = 48  # a user's requests within a slot are one session
_SLOT_US = 1_800_000_000
_LATEST_START_US = 1_200_000_000
_REQUESTS_PER_SESSION = 3

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Requests:
    """[n] requests in order of time. number: from 0 in the day; time: microseconds since the day's start."""

    number: Ints
    user: Ints
    session: Ints
    time: Ints

    def cut(self, size: int) -> Iterator[Requests]:
        """The same in parts of at most `size`."""
        for first in range(0, len(self.number), size):
            part = slice(first, first + size)
            yield Requests(
                number=self.number[part], user=self.user[part], session=self.session[part], time=self.time[part]
            )


def requests_of_day(day: int, count: int, num_users: int, seed: int, per_part: int) -> Iterator[Requests]:
    """`count` requests spread evenly over a day, in parts of about `per_part`, or one slot where that holds more.

    A session starts in the first 20 minutes of a half-hour slot, and its requests fall in the 10 minutes after. Each
    kind of draw has its own stream, so that the parts' size changes nothing in what they hold.
    """
    pick, who, start, pause = (np.random.default_rng([seed, 1, day, stream]) for stream in range(4))
    slots_per_part = max(1, min(SLOTS_PER_DAY, per_part * SLOTS_PER_DAY // count))
    for first_slot in range(0, SLOTS_PER_DAY, slots_per_part):
        slots = np.arange(first_slot, min(first_slot + slots_per_part, SLOTS_PER_DAY))
        per_slot = (slots + 1) * count // SLOTS_PER_DAY - slots * count // SLOTS_PER_DAY
        sessions_of_slot = -(-per_slot // _REQUESTS_PER_SESSION)
        slot, slot_of_session = np.repeat(slots, per_slot), np.repeat(slots, sessions_of_slot)
        num_requests, num_sessions = len(slot), len(slot_of_session)
        user_of_session = (who.random(num_sessions) * num_users).astype(np.int64)
        start_of_session = slot_of_session * _SLOT_US + (start.random(num_sessions) * _LATEST_START_US).astype(np.int64)
        first_session = np.repeat(np.cumsum(sessions_of_slot) - sessions_of_slot, per_slot)
        session = first_session + (pick.random(num_requests) * np.repeat(sessions_of_slot, per_slot)).astype(np.int64)
        time = start_of_session[session] + (pause.random(num_requests) * (_SLOT_US - _LATEST_START_US)).astype(np.int64)
        order = np.argsort(time, kind="stable")
        user = user_of_session[session[order]]
        yield Requests(
            number=first_slot * count // SLOTS_PER_DAY + np.arange(num_requests),
            user=user,
            session=(day * SLOTS_PER_DAY + slot[order]) * num_users + user,
            time=time[order],
        )
