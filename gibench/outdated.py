"""Results that do not speak for the code as it is now, though nothing is wrong with them."""

from __future__ import annotations

from gibench.report.text import one_line
from gibench.runner import make_plan
from gibench.store import Store
from gibench.suite import Suite


def outdated(suite: Suite, store: Store) -> list[str]:
    """Why a run of `suite` would not end with the cells that lie in `store`: a default changed, an entry, the suite
    itself, or what is solved for. Empty if it would."""
    grid = store.grid()
    if suite.version != (theirs := grid["suite"]["version"]):
        return [f"the suite is version {suite.version} now, these results are of version {one_line(theirs)}"]
    plan = make_plan(suite, store)
    if plan.jobs:
        return [one_line(f"as the code is now, the suite has {len(plan.jobs)} jobs to run, first {plan.jobs[0].label}")]
    asked = {work.id for work in plan.cells} | {work.id for work in plan.examinations}
    there = [*grid["cells"], *grid.get("audits", [])]
    unasked = [work for work in there if work.get("cell", work.get("examination")) not in asked]
    if unasked:
        what = f"{unasked[0].get('attack', unasked[0].get('audit'))} on {unasked[0]['defense']}"
        return [one_line(f"as the code is now, the suite does not ask for {len(unasked)} cells, first {what}")]
    return []
