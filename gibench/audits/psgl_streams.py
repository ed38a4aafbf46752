"""PSGL (Khowaja et al. 2022): what each of the server's views of the altered images is worth, and all of them fused."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import nn

from gibench.audits import Audit, Measure, Subject
from gibench.defenses import Defense
from gibench.draws import Draws
from gibench.systems.psgl import packed
from gibench.systems.psgl_streams import Sent, stream_accuracies
from gibench.types import Batch, Images


@dataclass(frozen=True)
class PSGLStreams(Audit):
    """Accuracy of small classifiers on the stream as sent, recovered by singular value thresholding at `threshold`, on
    what that leaves over, and on their fusion; each trained from scratch on what clients send."""

    citation: ClassVar[str] = (
        "Khowaja, Lee, Dev, Jarwar, Qureshi: Get your foes fooled: proximal gradient split learning for defense "
        "against model inversion attacks on IoMT data, IEEE TNSE 2023, arXiv 2201.04569"
    )
    threshold: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.1
    epochs: Annotated[int, Field(ge=1, le=1000)] = 20

    def unfit(self, defense: Defense, net: nn.Module) -> str:
        return "" if defense.entry_name() == "psgl" else f"{defense.entry_name()} sends no map beside its images"

    def examine(self, subject: Subject, draws: Draws) -> list[Measure]:
        def sent(images: Images, at: Draws) -> Sent:
            alone = Batch(images.x.unsqueeze(1), images.y.unsqueeze(1))
            with torch.no_grad():
                x = subject.defense.images(alone, at.of(range(len(images.y)))).x.squeeze(1)
            return Sent(packed(x, x - images.x), images.y)

        train, test = sent(subject.parts.client, draws.at("train")), sent(subject.parts.test, draws.at("test"))
        found = stream_accuracies(train, test, draws.at("streams"), self.threshold, self.epochs)
        return [Measure("", name, accuracy, "share") for name, accuracy in found.items()]
