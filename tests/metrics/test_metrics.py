"""Image metrics against scikit-image on real images, and at their ends."""

import numpy as np
import pytest
import torch
from skimage.metrics import mean_squared_error, peak_signal_noise_ratio, structural_similarity
from torch import Tensor

from gibench.datasets import Parts
from gibench.draws import Draws
from gibench.registry import build

MSE, PSNR, SSIM = (build("metrics", name) for name in ("mse", "psnr", "ssim"))


def reference_ssim(a: np.ndarray, b: np.ndarray) -> float:
    return structural_similarity(
        a, b, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1, channel_axis=0
    )


def pairs(images: Tensor, side: int) -> list[tuple[Tensor, Tensor]]:
    """Real images against noisy, shifted and other real ones, in double precision."""
    x = images[:12, :, :side, :side].double()
    noise = Draws(("noise",), range(12)).normal(*x.shape[1:]).double()
    return [(x, (x + 0.1 * noise).clamp(0, 1)), (x, x.roll(2, -1)), (x, x.flip(0)), (x, 1 - x), (x, x * 0)]


@pytest.mark.parametrize("side", [28, 32])
@pytest.mark.parametrize("source", ["digits", "ihc"])
def test_every_metric_equals_scikit_image(source: str, side: int, request: pytest.FixtureRequest) -> None:
    parts: Parts = request.getfixturevalue(source)
    for truth, guess in pairs(parts.test.x, side):
        found = [metric.compare(truth, guess) for metric in (MSE, PSNR, SSIM)]
        for i, (a, b) in enumerate(zip(truth.numpy(), guess.numpy(), strict=True)):
            assert found[0][i].item() == pytest.approx(mean_squared_error(a, b), abs=1e-12)
            assert found[1][i].item() == pytest.approx(peak_signal_noise_ratio(a, b, data_range=1), abs=1e-9)
            assert found[2][i].item() == pytest.approx(reference_ssim(a, b), abs=1e-6)


def test_single_precision_is_close(ihc: Parts) -> None:
    for truth, guess in pairs(ihc.test.x, 32):
        for metric in (MSE, PSNR, SSIM):
            fine, coarse = metric.compare(truth, guess), metric.compare(truth.float(), guess.float())
            assert torch.allclose(fine, coarse.double(), atol=1e-3)


def test_identical_images_and_the_cap(ihc: Parts) -> None:
    x = ihc.test.x[:3].double()
    assert PSNR.compare(x, x).tolist() == [100.0] * 3
    assert PSNR.compare(x, x + 1e-6).tolist() == pytest.approx([100.0] * 3)
    assert PSNR.compare(x, x + 1e-4).tolist() == pytest.approx([80.0] * 3)
    assert MSE.compare(x, x).tolist() == [0.0] * 3
    assert SSIM.compare(x, x).tolist() == pytest.approx([1.0] * 3)
    black = torch.zeros(1, 1, 32, 32)
    assert SSIM.compare(black, black).item() == pytest.approx(1)
    assert PSNR.compare(black, black + 1).item() == pytest.approx(0, abs=1e-6)


def test_one_number_per_image_whoever_is_beside_it(digits: Parts) -> None:
    a, b = digits.test.x[:5].double(), digits.test.x[5:10].double()
    for metric in (MSE, PSNR, SSIM):
        together = metric.compare(a, b)
        assert together.shape == (5,)
        assert torch.allclose(torch.cat([metric.compare(a[i : i + 1], b[i : i + 1]) for i in range(5)]), together)
        assert torch.allclose(metric.compare(b, a), together)


def test_a_guess_that_is_not_finite_is_not_called_a_match(digits: Parts) -> None:
    x = digits.test.x[:1]
    assert not torch.isfinite(MSE.compare(x, x * torch.nan)).any()
    assert not torch.isfinite(PSNR.compare(x, x * torch.nan)).any()
