"""Private, fair and accurate (Tayebi Arasteh et al. 2024): whom does a defended model serve worse?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from pydantic.dataclasses import dataclass

from gibench.audits import Audit, Measure, Subject
from gibench.draws import Draws
from gibench.systems.fairness import Subgroup, parity, subgroups


@dataclass(frozen=True)
class Fairness(Audit):
    """Accuracy, AUC and statistical parity difference (SPD) of the final model per subgroup of the test images.

    Paper: subgroups there are sex and age. The images here come without either, so that they are grouped by what is
    known of every image: its class (accuracy: the share of the class that is recognised; AUC: against all others), and
    whether it is darker or brighter than the median image. SPD is a group's accuracy less that of the others.
    """

    citation: ClassVar[str] = (
        "Tayebi Arasteh, Ziller, Kuhl, Makowski, Nebelung, Braren, Rueckert, Truhn, Kaissis: Preserving fairness and "
        "diagnostic accuracy in private large-scale AI models for medical imaging, Communications Medicine 2024, "
        "arXiv 2302.01622"
    )

    def examine(self, subject: Subject, draws: Draws) -> list[Measure]:
        test = subject.parts.test
        scores = subject.logits(test).double().softmax(1).cpu().numpy()
        labels = test.y.cpu().numpy()
        (whole,) = subgroups(scores, labels, ["all"] * len(labels))
        brightness = test.x.flatten(1).mean(1)
        bright = (brightness > brightness.median()).tolist()
        halves = subgroups(scores, labels, ["bright half" if one else "dark half" for one in bright])
        names, sizes = [half.name for half in halves], [half.size for half in halves]
        accuracy, auc = [half.accuracy for half in halves], [half.auc for half in halves]
        return [
            *_of_classes(whole),
            *_of_groups(names, sizes, accuracy, auc),
            Measure("all classes", "widest gap in accuracy", _gap(whole.class_accuracy), "share"),
            Measure("brightness", "widest gap in accuracy", _gap(accuracy), "share"),
        ]


def _of_classes(whole: Subgroup) -> list[Measure]:
    there = [c for c, size in enumerate(whole.class_sizes) if size]
    columns = (whole.class_sizes, whole.class_accuracy, whole.class_auc)
    sizes, accuracy, auc = ([column[c] for c in there] for column in columns)
    return _of_groups([f"class {c}" for c in there], sizes, accuracy, auc)


def _of_groups(
    names: Sequence[str], sizes: Sequence[float], accuracy: Sequence[float], auc: Sequence[float]
) -> list[Measure]:
    found = []
    for row in zip(names, sizes, accuracy, auc, parity(accuracy, sizes), strict=True):
        values = {"images": row[1], "accuracy": row[2], "AUC": row[3], "SPD": row[4]}
        units = {"accuracy": "share", "SPD": "share"}
        found += [Measure(row[0], name, float(v), units.get(name, "")) for name, v in values.items() if np.isfinite(v)]
    return found


def _gap(values: Sequence[float]) -> float:
    return float(np.nanmax(values) - np.nanmin(values))
