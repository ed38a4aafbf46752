"""The names of the leaderboard's columns, and which direction of a score is good for the attacker."""

from __future__ import annotations

SETTING = ["dataset", "model", "training", "checkpoint", "batch", "threat", "labels", "rounds"]
"""What two rows must share to be compared."""

PLACE = [*SETTING, "defense"]
"""One defense in one setting: every attack there competes on the same images."""

IMAGE = ["seed", "victim", "image"]
"""One attacked image; a victim is a batch of images that is attacked as a whole."""

BEST = {
    "mse": "min",
    "psnr": "max",
    "ssim": "max",
    "attacker_accuracy": "max",
    "identified": "max",
    "label_accuracy": "max",
    "psnr_sent": "max",
    "psnr_change": "max",
}
"""Scores of one image, with the direction in which the attacker has done better."""

ENSEMBLE = [f"worst_{name}" for name in list(BEST)[:6]]
"""What the members of an ensemble reached on an image, of every score the best."""

SSIM_OVER_HALF = "ssim_over_half"
"""Share of images with an SSIM over 0.5. On some datasets the floor has many of them: it says nothing by itself."""

MEANS = [*BEST, SSIM_OVER_HALF]
"""What a row of the leaderboard says about its images."""

INTERVALS = ["mse", "psnr", "ssim", "attacker_accuracy"]
"""Scores that are shown with a 95 % interval, in columns `_low` and `_high`."""

PLAIN = "fedsgd"
"""The training of results that do not name it."""

PRIOR, UNDEFENDED, OBLIVIOUS, WORST = "prior_only", "none", "oblivious", "worst"
PSEUDO = (OBLIVIOUS, WORST)
"""Attacks that are never run: per image the best of the attacks that ignore the defense, and of all attacks."""

COLUMNS = [
    *PLACE,
    "attack",
    "adaptive",
    "n",
    "victims",
    "utility",
    "utility_raw",
    "judge_accuracy",
    "epsilon",
    "rero_bound",
    "strength",
    "mse",
    "mse_low",
    "mse_high",
    "psnr",
    "psnr_low",
    "psnr_high",
    "ssim",
    "ssim_low",
    "ssim_high",
    SSIM_OVER_HALF,
    "attacker_accuracy",
    "attacker_accuracy_low",
    "attacker_accuracy_high",
    "identified",
    "gallery",
    "label_accuracy",
    "psnr_sent",
    "psnr_change",
    "floor_psnr",
    "undefended_psnr",
    "seconds",
    "flags",
    "status",
    "reason",
]


def is_prior(attack: str) -> bool:
    """The attack that looks at no update: the floor."""
    return entry(attack) == PRIOR


def entry(spec: str) -> str:
    """`dpsgd(sigma=0.1)` -> `dpsgd`."""
    return spec.partition("(")[0].strip()
