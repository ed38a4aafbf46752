"""Two-stage transfer (Zhang, Li 2022): pretrained on public images, then only the last layers are trained together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from typing import Annotated, ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional as F

from gibench.defenses import Defense
from gibench.draws import Draws
from gibench.learned.fit import minimise
from gibench.types import Images


@dataclass(frozen=True)
class TwoStage(Defense):
    """The head and the `unfrozen` layers with parameters before it are trained; the others stay as pretrained.

    Published (abstract): transfer learning, then federated training, of a CNN on lung CT; sizes and accuracies are
    not known. This project's reading: stage one trains the whole net on auxiliary images, as no public backbone of
    these nets exists; stage two freezes all but the last layers. The frozen ones are the server's own and need not be
    sent, so that at 0 one image's message holds its features exactly, and nothing else.
    """

    citation: ClassVar[str] = "Zhang, Li: Two-stage federated transfer learning for COVID-19, 2022, arXiv 2203.12803"
    place = "protocol"
    knob = "unfrozen"
    sweep = (99, 2, 1, 0)
    neutral = "two_stage(unfrozen=99, epochs=0)"
    oblivious_suffices: ClassVar[str] = "what is frozen is not sent and known: matching what is sent is exact already"
    unfrozen: Annotated[int, Field(ge=0)] = 0
    epochs: Annotated[int, Field(ge=0)] = 20  # of stage one

    def start(self, net: nn.Module, public: Images, draws: Draws) -> Mapping[str, Tensor]:
        net = deepcopy(net)

        def loss(chosen: Tensor, step: Draws) -> Tensor:
            return F.cross_entropy(net(public.x[chosen]), public.y[chosen])

        minimise(net.parameters(), loss, len(public.y), epochs=self.epochs, lr=2e-3, draws=draws)
        return {name: value.detach() for name, value in net.state_dict().items()}

    def frozen(self, names: Iterable[str]) -> frozenset[str]:
        names = list(names)
        layers = list(dict.fromkeys(name.rpartition(".")[0] for name in names))
        trained = layers[max(len(layers) - 1 - self.unfrozen, 0) :]
        return frozenset(name for name in names if name.rpartition(".")[0] not in trained)

    def withheld(self, names: Sequence[str]) -> frozenset[str]:
        return self.frozen(names)

    def unfit(self, net: nn.Module, shape: tuple[int, int, int], clients: int) -> str:
        norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
        return "BatchNorm: frozen layers would still follow the clients' statistics" if norms else ""
