"""What documents say of comparisons is what the pages say that a comparison wrote."""

import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LEADERBOARDS = runpy.run_path(str(ROOT / "benchmarks/leaderboards.py"))
PAGE = """# Recipes compared

| model | recovery | auc | less control | p (Holm) | tail_recall_at_10 |
|---|---|---|---|---|---|
| teacher | 1.0 | 0.80 (0.79 to 0.81) |  |  | 0.30 |
| high | 0.6 | 0.78 (0.77 to 0.79) | +0.03 (+0.01 to +0.05) | 0.01* | 0.21 |
| tail | 0.4 | 0.77 (0.76 to 0.78) | +0.02 (+0.01 to +0.03) | 0.01* | 0.25 |
| noise | 0.0 | 0.75 (0.74 to 0.76) | +0.00 (-0.01 to +0.01) | 1.0 | 0.28 |
| control | 0.0 | 0.75 (0.74 to 0.76) |  |  | 0.22 |
"""


def test_a_pages_line_names_its_best_and_the_tails_best_of_those_that_surely_help():
    cells = [cell.strip() for cell in LEADERBOARDS["line"]("some", PAGE).strip("|").split("|")]
    assert cells[0] == "[some](leaderboards/some.md)"
    assert cells[1:6] == ["auc", "0.80 (0.79 to 0.81)", "0.75 (0.74 to 0.76)", "high", "0.78 (0.77 to 0.79)"]
    assert cells[8] == "tail 0.25, control 0.22"


@pytest.mark.parametrize("page", sorted(LEADERBOARDS["pages"](ROOT / "docs/leaderboards")), ids=lambda page: page.stem)
def test_results_hold_what_a_page_says_and_the_index_names_it(page):
    """Else: make leaderboards, and a row in docs/leaderboards/README.md."""
    assert LEADERBOARDS["line"](page.stem, page.read_text()) in (ROOT / "docs/results.md").read_text().splitlines()
    assert f"({page.name})" in (ROOT / "docs/leaderboards/README.md").read_text()
