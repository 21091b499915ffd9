"""Whether a scorer answers as the bundle's golden requests say, before anybody else asks it."""

from __future__ import annotations

import numpy as np

from recdistill.serve.scorer import Scorer
from recdistill.ship.golden import GOLDEN, compare_golden, read_golden

_ALONE = 16  # of them are also asked as a user with one candidate


def check_golden(scorer: Scorer) -> int:
    """How many golden requests a scorer answers rightly. BadInput for the first that it does not.

    A bundle without any is only compared with its plain graph, as every form of requests is when it is first seen.
    """
    if not (scorer.folder / GOLDEN).is_file():
        return 0
    requests, wanted = read_golden(scorer.folder)
    columns = {name: requests.column(name).combine_chunks() for name in requests.schema.names}
    where = str(scorer.folder)
    compare_golden(scorer.score({}, candidates=columns), wanted, where)
    rows = requests.slice(0, _ALONE).to_pylist()
    of_item = scorer.item_columns
    alone = [
        scorer.score(
            {name: value for name, value in row.items() if name not in of_item},
            candidates={name: [row[name]] for name in of_item},
        )[0]
        for row in rows
    ]
    compare_golden(np.array(alone, dtype=np.float32), wanted[: len(alone)], where)
    return len(wanted)
