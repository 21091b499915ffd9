"""Work ahead in threads: the same results in the same order, never many of them, and an error where it belongs."""

import threading

import pytest

from recdistill.data.ahead import ahead, mapped


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_results_come_in_order_whoever_is_done_first(threads):
    later = threading.Event()

    def work(number):
        if number == 0 and threads > 1:
            later.wait(10)  # the first is done last
        if number == 1:
            later.set()
        return number * number

    assert list(mapped(work, ((number,) for number in range(20)), threads)) == [n * n for n in range(20)]
    assert list(ahead(iter(range(20)), threads)) == list(range(20))


@pytest.mark.parametrize("threads", [1, 3])
def test_no_more_items_are_taken_than_are_worked_on(threads):
    taken, used = [], 0

    def items():
        for number in range(50):
            taken.append(number)
            yield (number,)

    for _ in mapped(lambda number: number, items(), threads):
        used += 1
        assert len(taken) <= used + threads
    assert used == len(taken) == 50


@pytest.mark.parametrize("threads", [1, 2])
def test_an_error_comes_after_the_results_before_it(threads):
    results = mapped(lambda number: 6 // number, ((n,) for n in (3, 2, 0, 1)), threads)
    assert [next(results), next(results)] == [2, 3]
    with pytest.raises(ZeroDivisionError):
        next(results)
