"""From guesses to rows: matching, failures, labels and identification."""

import math

import pytest
import torch
from torch import Tensor, nn

from gibench.datasets import Parts
from gibench.draws import Draws
from gibench.engine.assignment import match_images
from gibench.judge import gallery_of, identified, judged_right
from gibench.scoring import score
from gibench.types import Batch, Guess

V, B = 3, 4


class Brightness(nn.Module):
    """A judge that needs no training: class 1 where the mean pixel exceeds 0.5."""

    def forward(self, x: Tensor) -> Tensor:
        bright = x.flatten(1).mean(1) - 0.5
        return torch.stack([-bright, bright], 1)


@pytest.fixture
def victims(digits: Parts) -> Batch:
    return Batch(digits.test.x[: V * B].unflatten(0, (V, B)), digits.test.y[: V * B].unflatten(0, (V, B)))


@pytest.fixture
def blurred(victims: Batch) -> Tensor:
    """Guesses near the truth, in its order."""
    return (0.8 * victims.x + 0.1 + 0.02 * Draws(("blur",), range(V)).normal(*victims.x.shape[1:])).clamp(0, 1)


def scored(
    victims: Batch, digits: Parts, x: Tensor, labels: Tensor | None = None, **changes: object
) -> tuple[list[dict], Tensor]:
    labels = victims.y if labels is None else labels
    guess = Guess(x, labels, changes.get("loss", torch.zeros(V)), 7, changes.get("reasons", ()))
    index = torch.arange(V * B).view(V, B)
    sent = changes.get("sent", victims)
    return score(victims, sent, guess, index, Brightness(), gallery_of(digits.test), "{}")


def test_matching_finds_every_permutation(victims: Batch, blurred: Tensor) -> None:
    orders = Draws(("order",), range(V)).permutation(B)
    mixed = torch.stack([x[order] for x, order in zip(blurred, orders, strict=True)])
    found = match_images(victims.x, mixed)
    assert torch.equal(found, orders.argsort(1))
    assert torch.equal(match_images(victims.x[:, :1], blurred[:, :1]), torch.zeros(V, 1, dtype=torch.long))


def test_matching_is_one_to_one_even_if_one_guess_is_best_for_all(victims: Batch, blurred: Tensor) -> None:
    x = torch.zeros_like(blurred)
    x[:, 2] = victims.x.mean(1)  # nearer to most truths than black is
    assert match_images(victims.x, x).sort(1).values.tolist() == [list(range(B))] * V


def test_matching_has_the_least_total_error(digits: Parts) -> None:
    from itertools import permutations

    truth, guess = digits.test.x[:4].unsqueeze(0), digits.test.x[20:24].unsqueeze(0)
    best = min(permutations(range(4)), key=lambda order: float((truth - guess[:, list(order)]).square().sum()))
    assert match_images(truth, guess).tolist() == [list(best)]


def test_the_order_of_the_guesses_changes_no_row(victims: Batch, digits: Parts, blurred: Tensor) -> None:
    plain, x = scored(victims, digits, blurred)
    orders = Draws(("order",), range(V)).permutation(B)
    mixed = torch.stack([own[order] for own, order in zip(blurred, orders, strict=True)])
    again, back = scored(victims, digits, mixed)
    assert again == plain
    assert torch.equal(back, x)
    assert torch.equal(x, blurred)
    assert [(row["victim"], row["image"], row["test_index"]) for row in plain] == [
        (v, b, v * B + b) for v in range(V) for b in range(B)
    ]


def test_rows_hold_the_metrics_of_their_image(victims: Batch, digits: Parts, blurred: Tensor) -> None:
    rows, _ = scored(victims, digits, blurred, sent=Batch(1 - victims.x, victims.y))
    for row in rows:
        truth, guess = victims.x[row["victim"], row["image"]].double(), blurred[row["victim"], row["image"]].double()
        assert row["mse"] == pytest.approx(float((truth - guess).square().mean()))
        assert row["mse_sent"] == pytest.approx(float((1 - truth - guess).square().mean()), rel=1e-5)
        assert row["mse_change"] == pytest.approx(float((1 - 2 * truth).square().mean()), rel=1e-5)
        assert row["psnr"] == pytest.approx(-10 * math.log10(row["mse"]))
        assert (row["status"], row["steps"], row["tuned"], row["loss"]) == ("ok", 7, "{}", 0)
        assert row["gallery"] == len(digits.test.y)


@pytest.mark.parametrize("fault", ["image", "loss", "both", "infinite"])
def test_a_victim_that_is_not_finite_fails_alone_and_with_a_reason(
    victims: Batch, digits: Parts, blurred: Tensor, fault: str
) -> None:
    x, loss = blurred.clone(), torch.zeros(V)
    if fault in ("image", "both"):
        x[1, 2, 0, 3, 3] = torch.nan
    if fault in ("loss", "both"):
        loss[1] = torch.nan
    if fault == "infinite":
        x[1, 0] = torch.inf
    rows, back = scored(victims, digits, x, loss=loss)
    plain, _ = scored(victims, digits, blurred)
    assert [row for row in rows if row["victim"] != 1] == [row for row in plain if row["victim"] != 1]
    lost = [row for row in rows if row["victim"] == 1]
    assert len(lost) == B
    for row in lost:
        assert row["status"] == "failed"
        assert "not finite" in row["reason"]
        for name in ("mse", "psnr", "ssim", "mse_sent", "attacker_accuracy", "identified", "label_accuracy", "loss"):
            assert row[name] is None
        assert row["mse_change"] == 0
    assert back.isfinite().all()
    told, _ = scored(victims, digits, x, loss=loss, reasons=("diverged",) * V)
    assert {row.get("reason") for row in told if row["status"] == "failed"} == {"diverged"}


@pytest.mark.parametrize(
    ("truth", "guess", "share"),
    [
        ([1, 2, 3, 4], [4, 3, 2, 1], 1.0),
        ([1, 1, 2, 2], [1, 2, 2, 2], 0.75),
        ([1, 1, 1, 1], [1, 2, 3, 4], 0.25),
        ([0, 0, 0, 0], [9, 9, 9, 9], 0.0),
        ([7, 7, 3, 0], [7, 7, 3, 3], 0.75),
    ],
)
def test_labels_overlap_as_multisets(
    victims: Batch, digits: Parts, blurred: Tensor, truth: list[int], guess: list[int], share: float
) -> None:
    labelled = Batch(victims.x, torch.tensor([truth, truth, [0, 1, 2, 3]]))
    rows, _ = scored(labelled, digits, blurred, torch.tensor([guess, truth, [3, 2, 1, 0]]))
    assert [row["label_accuracy"] for row in rows] == [share] * B + [1.0] * 2 * B


def test_identification_is_the_nearest_of_the_gallery(victims: Batch, digits: Parts, blurred: Tensor) -> None:
    rows, _ = scored(victims, digits, blurred)
    assert all(row["identified"] == 1 for row in rows)
    other = digits.test.x[50 : 50 + V * B].view_as(victims.x)
    rows, _ = scored(victims, digits, other)
    assert all(row["identified"] == 0 for row in rows)
    gallery = gallery_of(digits.test)
    index = torch.tensor([5, 6, 7])
    assert identified(gallery, gallery[index], index).tolist() == [1, 1, 1]
    assert identified(gallery, gallery[index], index.roll(1)).tolist() == [0, 0, 0]


def test_the_judge_is_asked_about_the_guess_and_the_true_label() -> None:
    x = torch.tensor([0.9, 0.9, 0.1, 0.1]).view(4, 1, 1, 1).expand(4, 1, 4, 4)
    assert judged_right(Brightness(), x, torch.tensor([1, 0, 0, 1])).tolist() == [1, 0, 1, 0]
