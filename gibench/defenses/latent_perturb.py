"""Learned latent perturbation by minimax (after Jiang, Firouzi, Chakrabarty 2025; only its abstract was known).

Reading A of that abstract: encode the image, perturb its latent, decode, train on the decoded image. Reading B: the
latent is the classifier's own, the features before its last linear layer. Results speak for a defense of the kind
the abstract describes, not for the paper's method: a difference from its 12.5 % or 12.4 % is neither a replication
nor its failure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import chain
from typing import Annotated, ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from gibench.defenses import Defense, Place, Source
from gibench.draws import Draws
from gibench.engine.features import shift_features, through_shift
from gibench.engine.labels import linears
from gibench.learned.federated import federate, parties
from gibench.learned.fit import seeded
from gibench.learned.inverter import best_inverter, learn_inverters
from gibench.learned.latent import Bottleneck, Code, Maps, Outside, Shift, Transform, each
from gibench.learned.minimax import Minimax, learn_autoencoder
from gibench.types import Batch, Images, Match, Range, View

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Adversaries = Annotated[tuple[Literal["conv", "mlp"], ...], Field(min_length=1, max_length=2)]

GAMES = 3
ROUNDS = 4  # of federated averaging, between which every party learns for all epochs
ALIKE = 1e-3  # standard deviation of a pixel over images, below which they are all the same


@dataclass(frozen=True)
class LatentPerturb(Defense):
    """`budget`: the latent moves by exactly rho times its norm, in a learned direction with a share of plain noise.
    `bottleneck`: the latent is resampled from learned means and deviations at a cost of beta per nat.
    `code`: the image becomes a code of `latent` numbers learned for the task, beta per nat beyond what its class says.

    Everything is learned on auxiliary images. What a dear code sends says no more than its class, from which nobody
    learns: its model is as good as a classifier trained on the images of its own learning, to which it is compared.

    `contrast`: what a code decodes to has the same mean and contrast at every pixel. Without it, a game against
    adversaries may end in images that are all but black or alike, from which its own classifier alone can still learn.

    `learns_from="client"`: on the clients' own images instead, pooled by a curator whom they trust. The networks are
    public and tell about those images, which no attack here reads from them, and victims are others: rows leave out
    what this costs. `"federated"`: by federated averaging over eight parties that share them out; each plays the game
    against adversaries and classifiers of its own. Attackers study the networks on auxiliary images either way.

    `reading="B"` is an ablation: nothing can be learned before the classifier exists, so that its features move by
    rho times their norm along plain noise, `fresh=1`; images stay as they are, and in use there is no noise. At rho=0
    it is `none`; reading A has no neutral end.

    Controls: `rho=0` is the autoencoder alone; `fresh=1` has no learned direction, plain noise of equal norm;
    `where="output"` puts that noise on the decoded image; `lam=0` has no adversary; `kind="bottleneck", beta=0, lam=0`
    is the transform trained for the task alone, whose noise dies out.
    """

    citation: ClassVar[str] = (
        "Jiang, Firouzi, Chakrabarty: Defending against gradient inversion attacks for biomedical images via learnable "
        "data perturbation, 2025, arXiv 2503.16542"
    )
    version: ClassVar[int] = 3
    later: ClassVar[frozenset[str]] = frozenset({"contrast"})
    stochastic: ClassVar[bool] = True
    kind: Literal["budget", "bottleneck", "code"] = "budget"
    rho: NotNegative = 1.0
    beta: NotNegative = 1e-3
    fresh: Annotated[float, Field(ge=0, le=1)] = 0.25
    where: Literal["latent", "output"] = "latent"
    lam: NotNegative = 0.1  # at 1 the game often ends where images say nothing to a classifier either
    adversaries: Adversaries = ("conv", "mlp")
    cap: Positive = 1.0  # of the adversary's error, in errors of the mean image
    latent: Annotated[int, Field(ge=1, le=64)] = 8  # maps of a quarter of the side; numbers of a code
    autoencoder_epochs: Annotated[int, Field(ge=1)] = 40  # after 10 it still loses what ten classes need
    epochs: Annotated[int, Field(ge=1)] | None = None  # None: 8, for a code 20
    adversary_steps: Annotated[int, Field(ge=1, le=5)] = 1
    still: bool = False  # in use, where nothing leaves the client, the noise is left out
    learns_from: Source = "aux"
    reading: Literal["A", "B"] = "A"
    contrast: bool = False

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.where == "output" and (self.kind != "budget" or self.fresh < 1):
            raise ValueError('where="output" is a control with plain noise: it takes kind="budget" and fresh=1')
        if self.still and self.kind == "budget":
            raise ValueError("still: a budget is spent at every use; only a bottleneck or code has a mean to show")
        if self.contrast and self.kind != "code":
            raise ValueError('contrast: it evens what a code decodes to, and takes kind="code"')
        if len(set(self.adversaries)) < len(self.adversaries):
            raise ValueError("adversaries: each family once")
        plain = self.kind == "budget" and self.fresh == 1 and self.where == "latent"
        if self.reading == "B" and not (plain and self.learns_from == "aux"):
            raise ValueError('reading="B" is plain noise inside the model and learns nothing: kind="budget", fresh=1')
        return self

    @property
    def place(self) -> Place:  # type: ignore[override]
        return "data" if self.reading == "A" else "model"

    @property
    def match_needs(self) -> frozenset[str]:  # type: ignore[override]
        return frozenset({"aux_data", "defense_params"} if self.reading == "A" else ())

    @property
    def variants(self) -> tuple[str, ...]:  # type: ignore[override]
        return ("eot", "range") if self.reading == "A" else ()

    @property
    def knob(self) -> str:  # type: ignore[override]
        return "rho" if self.kind == "budget" else "beta"

    @property
    def sweep(self) -> tuple[float, ...]:  # type: ignore[override]
        return (0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0) if self.kind == "budget" else (1e-4, 1e-3, 1e-2, 1e-1)

    def fit(self, images: Images, draws: Draws) -> Self:
        """Autoencoder, then minimax between transform and adversaries, all on the same images.

        A game can end where all images look alike: nothing leaks, and nothing can be learned. It is played again with
        other weights; where it ends so each time, nothing is worth its price, and accuracy shows it.
        """
        if self.reading == "B":
            return self
        games = (self._played(images, draws.at("again", k) if k else draws) for k in range(GAMES))
        first = next(games)
        made = next((game for game in chain([first], games) if _says_something(game, images.x)), first)
        return replace(self, state=made.state_dict())

    def _played(self, images: Images, draws: Draws) -> Transform:
        classes = int(images.y.max()) + 1
        made = seeded(draws.at("transform"), lambda: self._made(images.x, classes)).to(images.x)
        if self.learns_from == "federated":
            self._federated(made, parties(images, draws.at("parties")), draws)
            return made.eval()
        if isinstance(made, Maps):
            learn_autoencoder(made, images, self.autoencoder_epochs, draws.at("autoencoder"))
        if self._directed:
            self._game.play(made, images, draws.at("minimax"))
        return made.eval()

    def _federated(self, made: Transform, shares: list[Images], draws: Draws) -> None:
        def learned(own: Transform, share: Images, at: Draws) -> None:
            assert isinstance(own, Maps)
            learn_autoencoder(own, share, self.autoencoder_epochs, at)

        if isinstance(made, Maps):
            for r in range(ROUNDS):
                federate(made, shares, learned, draws.at("autoencoder", r))
            made.autoencoder.requires_grad_(False)
        for r in range(ROUNDS if self._directed else 0):
            federate(made, shares, self._game.play, draws.at("minimax", r))

    @property
    def _directed(self) -> bool:
        """Plain noise has no direction to learn."""
        return self.kind != "budget" or self.fresh < 1

    @property
    def _game(self) -> Minimax:
        code = self.kind == "code"
        epochs = self.epochs or (20 if code else 8)
        return Minimax(self.adversaries, self.lam, self.beta, self.cap, epochs, self.adversary_steps, rising=code)

    def images(self, batch: Batch, draws: Draws) -> Batch:
        if self.reading == "B":
            return batch
        with torch.no_grad():
            return replace(batch, x=self._transmitted(batch.x, draws))

    def inference(self, batch: Batch, draws: Draws) -> Batch:
        if not self.still:
            return self.images(batch, draws)
        made, x = self._learned(batch.x), batch.x.flatten(0, 1)
        with torch.no_grad():
            return replace(batch, x=made(x, torch.zeros(len(x), *made.noise).to(x))[0].view_as(batch.x))

    def network(self, net: nn.Module) -> nn.Module:
        return shift_features(net, self.rho) if self.reading == "B" and linears(net) else net

    def study(self, aux: Images, draws: Draws) -> Mapping[str, Tensor]:
        """Fresh inverse networks, transmitted -> raw image."""
        if self.reading == "B":
            return {}
        made = self._learned(aux.x)

        def transmitted(x: Tensor, own: Draws) -> Tensor:
            with torch.no_grad():
                sent: Tensor = made(x, own.normal(len(x), *made.noise, like=x)[0])[0]
            return sent

        return learn_inverters(aux.x, transmitted, draws)

    def match(self, view: View) -> Match:
        """Invert to the transmitted image, then apply the best of the inverse networks trained afresh.

        Every round shows the image through other noise, so that several are inverted one by one and then averaged.
        """
        if self.reading == "B":
            return through_shift(view)
        inverse = best_inverter(view.studied, *view.shape[1:3])
        return Match(post=each(inverse), rounds="apart")

    def variant(self, name: str, view: View) -> Match:
        """`eot`: raw images are searched for, through fresh noise. `range`: the search stays in the decoder's range."""
        if name == "eot":
            return Match(input_map=self._transmitted, draws=4)
        assert view.aux is not None
        made = self._learned(view.aux.x)
        return replace(self.match(view), range=Range(each(made.encode), each(made.decode)))

    def unfit(self, net: nn.Module, shape: tuple[int, int, int], clients: int) -> str:
        if self.reading == "B":
            return "" if linears(net) else 'reading="B" goes before the last linear layer; this model has none'
        return f"latent_perturb takes images of a side divisible by 4, not {shape[1]}" if shape[1] % 4 else ""

    def _transmitted(self, x: Tensor, draws: Draws) -> Tensor:
        """(v, b, c, h, w) -> the same shape; noise from each victim's own stream."""
        if len(draws.members) != len(x):
            raise ValueError(f"{len(draws.members)} streams for {len(x)} victims: each needs noise of its own")
        made = self._learned(x)
        eps = draws.normal(x.shape[1], *made.noise, like=x)
        sent: Tensor = made(x.flatten(0, 1), eps.flatten(0, 1))[0]
        return sent.view_as(x)

    def _learned(self, like: Tensor) -> Transform:
        """The learned networks, rebuilt from the public state for images like `like` (..., c, h, w)."""
        classes = len(self.state["centres"]) if self.kind == "code" else 0
        with torch.random.fork_rng(devices=[]):
            made = self._made(like, classes)
        made.load_state_dict(dict(self.state))
        return made.to(like).requires_grad_(False).eval()

    def _made(self, like: Tensor, classes: int) -> Transform:
        channels, side = like.shape[-3:-1]
        if self.kind == "code":
            return Code(channels, side, self.latent, classes, self.contrast)
        if self.kind == "bottleneck":
            return Bottleneck(channels, side, self.latent)
        return (Shift if self.where == "latent" else Outside)(channels, side, self.latent, self.rho, self.fresh)


def _says_something(made: Transform, x: Tensor) -> bool:
    """Whether different images are transmitted as different ones, all with the noise that is most likely."""
    x = x[:256]
    with torch.no_grad():
        return bool(made(x, torch.zeros(len(x), *made.noise).to(x))[0].std(0).mean() >= ALIKE)
