"""Make the next item of an iterator in a thread while this one is worked on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


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
