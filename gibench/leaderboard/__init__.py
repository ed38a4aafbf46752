"""From rows to a ranking: pool, bootstrap, take the worst case, say what is no evidence. Numbers only, no torch."""

from gibench.leaderboard.aggregate import aggregate
from gibench.leaderboard.columns import COLUMNS, PSEUDO, SETTING
from gibench.leaderboard.matched import compare, matched, pairs
from gibench.leaderboard.validity import validity

__all__ = ["COLUMNS", "PSEUDO", "SETTING", "aggregate", "compare", "matched", "pairs", "validity"]
