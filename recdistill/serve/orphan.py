"""Ends a process whose supervisor died: it would hold the port, or ask the registry, for ever."""

from __future__ import annotations

import os
import signal
import threading
import time

_LOOK_S = 1.0


def end_with_parent() -> None:
    """Watch the parent from a thread, and end this process as by SIGTERM when it is gone."""
    parent = os.getppid()

    def wait() -> None:
        while os.getppid() == parent:
            time.sleep(_LOOK_S)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()
