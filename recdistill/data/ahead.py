"""Work ahead in threads while one item is used: make the next item of an iterator, or the results of several."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar, TypeVarTuple

T = TypeVar("T")
Given = TypeVarTuple("Given")


def ahead(items: Iterable[T], threads: int) -> Iterator[T]:
    """The same items in the same order; one is held ready beside the one in use, but not where there is one thread.

    >>> list(ahead([1, 2, 3], threads=2))
    [1, 2, 3]
    """
    if threads == 1:
        yield from items
        return
    source = iter(items)
    end = object()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(next, source, end)
        while (item := waiting.result()) is not end:
            waiting = pool.submit(next, source, end)
            yield item  # type: ignore[misc]


def mapped(work: Callable[[*Given], T], items: Iterable[tuple[*Given]], threads: int) -> Iterator[T]:
    """work(*item) for every item, in their order; as many are held ready beside the one in use as there are threads.

    >>> list(mapped(lambda one, other: one * other, [(1, 2), (3, 4)], threads=2))
    [2, 12]
    """
    if threads == 1:
        yield from (work(*item) for item in items)
        return
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[T]] = deque()
        for item in items:
            waiting.append(pool.submit(work, *item))
            if len(waiting) > threads:
                yield waiting.popleft().result()
        yield from (future.result() for future in waiting)
