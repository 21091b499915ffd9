"""SIGTERM waits for the end of the step; then it does what it would have done, and nothing is changed for later."""

import os
import signal
import threading

import pytest

from recdistill.train.engine.stop import Stop


def test_it_is_noted_and_then_ends_with_a_status_of_its_own():
    before = signal.getsignal(signal.SIGTERM)
    with Stop() as stop:
        assert not stop.asked(1)
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.asked(2)
        with pytest.raises(SystemExit) as ended:
            stop.go()
    assert ended.value.code == 143
    assert signal.getsignal(signal.SIGTERM) == before


def test_whoever_took_it_before_takes_it_after_the_step():
    heard = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
    try:
        with Stop() as stop:
            os.kill(os.getpid(), signal.SIGTERM)
            assert heard == []
            with pytest.raises(SystemExit):
                stop.go()
            assert heard == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)


def test_in_another_thread_it_changes_nothing():
    before, asked = signal.getsignal(signal.SIGTERM), []

    def work():
        with Stop() as stop:
            asked.append(stop.asked(1))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert asked == [False]
    assert signal.getsignal(signal.SIGTERM) == before
