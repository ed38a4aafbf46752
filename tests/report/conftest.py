"""Reports are tested on the leaderboard's invented results."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "leaderboard"))
