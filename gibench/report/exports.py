"""The leaderboard for programs: csv and json, the same columns in both."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pandas as pd

from gibench.leaderboard import aggregate, compare
from gibench.leaderboard.audits import audited
from gibench.leaderboard.points import has_matches

if TYPE_CHECKING:
    from gibench.store import Results


def as_csv(results: Results) -> str:
    """All rows of the leaderboard; an unknown number is an empty field."""
    return str(aggregate(results).to_csv(index=False, lineterminator="\n"))


def as_json(results: Results) -> str:
    """An object with `suite` (name), `version`, `protocol`, `commit` and `rows`; an unknown value is null.

    Keys of a row:
    - the setting: dataset, model, checkpoint (init, early, final), batch, threat, labels, rounds;
    - who met whom: defense and attack (full specs), adaptive (the attack knew the defense). The attacks `oblivious`
      and `worst` are no runs: per image the best of the attacks that ignore the defense, and of all attacks;
    - n: images behind the scores, all seeds and victims pooled; victims: the different messages among them, which
      every seed attacks again;
    - utility (accuracy with the defense at inference, final model, mean over seeds), utility_raw (on raw images),
      epsilon (largest over seeds, null without accounting), rero_bound (the share of images that any one attack can
      identify in this setting if the accounting is right; null where nothing is promised), strength (the defense's
      knob, signed so that more is stronger);
    - mse, psnr, ssim, attacker_accuracy: reconstruction against the raw image, mean and 95 % interval (`_low`,
      `_high`); ssim_over_half (share of images with an SSIM over 0.5); identified (the true image is the nearest of
      `gallery` many), label_accuracy; psnr_sent (against the transmitted image), psnr_change (transmitted against raw);
    - floor_psnr: prior_only in the same setting and defense; undefended_psnr: the same attack without a defense;
    - seconds: of all attacks and images in the row; flags: warnings, such as that an attack is broken, that it
      beats the bound, or that a stronger knob leaks more; status (ok, failed, skipped, missing) and reason.
      A row that is not ok has null scores; an ok row with a reason is incomplete.

    A suite with matched utility also has `matched`, a row per setting, target and family, and `pairs`, the paired
    differences: gibench.leaderboard.matched and .pairs say what their keys mean.
    One with audits has `audits`, a row per measure: gibench.leaderboard.audits says what its keys mean.
    """
    suite = results.grid.get("suite", {})
    head = {"suite": suite.get("name"), "version": suite.get("version"), "protocol": results.grid.get("protocol")}
    rows = _records(aggregate(results))
    whole = head | {"commit": results.commit, "rows": rows}
    if has_matches(results):
        found = compare(results)
        whole |= {"matched": _records(found.matched), "pairs": _records(found.pairs)}
    if len(audits := audited(results)):
        whole |= {"audits": _records(audits)}
    return json.dumps(whole, indent=1, allow_nan=False) + "\n"


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{key: _plain(value) for key, value in row.items()} for row in table.to_dict("records")]


def _plain(value: Any) -> Any:
    """A plain JSON value: null for every kind of not known."""
    if pd.isna(value) or value in (float("inf"), float("-inf")):
        return None
    return value.item() if hasattr(value, "item") else value
