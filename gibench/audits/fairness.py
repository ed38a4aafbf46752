"""Private, fair and accurate (Tayebi Arasteh et al. 2024): whom does a defended model serve worse?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal, cast

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from gibench.attacks import Attack
from gibench.audits import Audit, Measure, Subject
from gibench.draws import Draws
from gibench.metrics.psnr import PSNR
from gibench.registry import build
from gibench.systems.fairness import Subgroup, leakage, parity, subgroups
from gibench.types import Batch, View


@dataclass(frozen=True)
class Fairness(Audit):
    """Accuracy, AUC and statistical parity difference (SPD) of the final model per subgroup of the test images.

    Paper: subgroups there are sex and age. The images here come without either, so that they are grouped by what is
    known of every image: its class (accuracy: the share of the class that is recognised; AUC: against all others), and
    whether it is darker or brighter than the median image. SPD is a group's accuracy less that of the others. PSNR:
    what `attack` finds of each group's images among the first `victims` test images, sent at `checkpoint`.
    """

    citation: ClassVar[str] = (
        "Tayebi Arasteh, Ziller, Kuhl, Makowski, Nebelung, Braren, Rueckert, Truhn, Kaissis: Preserving fairness and "
        "diagnostic accuracy in private large-scale AI models for medical imaging, Communications Medicine 2024, "
        "arXiv 2302.01622"
    )

    attack: str = "inverting_gradients(steps=150, tv=0.01)"
    victims: Annotated[int, Field(ge=0, le=1000)] = 32  # 0: nothing is attacked
    checkpoint: Literal["init", "early", "final"] = "init"

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
            *self._leaks(subject, bright, draws),
        ]

    def _leaks(self, subject: Subject, bright: Sequence[bool], draws: Draws) -> list[Measure]:
        """Nothing of clients that are only seen summed, encrypted or as activations, which this attack cannot read."""
        test, n = subject.parts.test, self.victims
        defense = subject.defense
        if not n or defense.sealed or defense.cohort or subject.training.protocol == "split":
            return []
        batch = Batch(test.x[:n].unsqueeze(1), test.y[:n].unsqueeze(1))
        own = draws.at("victims").of(range(len(batch.y)))
        view = View(
            model=subject.nets[self.checkpoint],
            update=subject.messages(self.checkpoint, batch, own),
            kind="gradient" if subject.local is None else "delta",
            shape=(1, *test.x.shape[1:]),
            classes=int(subject.parts.aux.y.max()) + 1,
            aux=subject.parts.aux,
            local=subject.local,
        )
        guess = cast(Attack, build("attacks", self.attack)).answer(view, draws.at("attack").of(own.members))
        psnr = PSNR().compare(batch.x.flatten(0, 1).double(), guess.x.flatten(0, 1).double()).cpu().numpy()
        found = []
        for groups in (
            [f"class {label}" for label in batch.y.flatten().tolist()],
            ["bright half" if one else "dark half" for one in bright[:n]],
        ):
            leaks = leakage(psnr, groups)
            found += [Measure(f"leak of {leak.name}", "PSNR", leak.mean) for leak in leaks]
        return found


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
