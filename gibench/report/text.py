"""Numbers and foreign texts, brought into a form that is safe to print."""

from __future__ import annotations

import math
import re

NOTHING = "-"


def decimals(value: float, places: int) -> str:
    """A number with so many decimals; `-` where there is none."""
    return NOTHING if math.isnan(value) else f"{value:.{places}f}"


def percent(value: float, places: int = 0) -> str:
    return NOTHING if math.isnan(value) else f"{100 * value:.{places}f}%"


def measured(value: float, spread: float, unit: str) -> str:
    """A number of an audit, a share in percent, with its standard deviation where there is one."""
    some = spread > 0  # neither unknown nor nought
    if unit == "share":
        return percent(value, 1) + (f" ± {percent(spread, 1)}" if some else "")
    return f"{value:.4g}" + (f" ± {spread:.2g}" if some else "")


def seconds(value: float) -> str:
    """A duration with as many decimals as say something."""
    return decimals(value, 2 if value < 10 else 0)


def signed(value: float) -> str:
    """A difference in dB; what rounds to nought has no sign."""
    return NOTHING if math.isnan(value) else f"{round(value, 1) + 0.0:+.1f}".replace("+0.0", "0.0")


def signed_percent(value: float, unit: str = "%") -> str:
    """A share as percent, or as points, with its sign."""
    return NOTHING if math.isnan(value) else f"{round(100 * value, 1) + 0.0:+.1f}{unit}"


def span(low: float, high: float, before: str = " ") -> str:
    """An interval in brackets, to stand behind its mean; nothing where there is none. What rounds to nought has no
    sign."""
    return "" if math.isnan(low) or math.isnan(high) else f"{before}[{low:z.1f}, {high:z.1f}]"


def one_line(text: object) -> str:
    """A text of unknown origin without line breaks and control characters."""
    return " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())


def markdown(text: object) -> str:
    """The same, with everything escaped that Markdown or HTML would read as markup."""
    return re.sub(r"([\\`*_\[\]<>|~&#$])", r"\\\1", one_line(text))


def code(text: object) -> str:
    """A spec as inline code of a Markdown table."""
    return "`" + one_line(text).replace("`", "'").replace("|", "\\|") + "`"
