"""The picture of a cell: size, colours, repeatability."""

import io

import matplotlib.image
import numpy as np
import pytest

from gibench.report.picture import picture


def images(victims: int = 14, channels: int = 1, change: int = 9) -> dict[str, np.ndarray]:
    x = np.random.default_rng(0).integers(0, 200, (victims, 1, channels, 28, 28)).astype(np.uint8)
    return {"victims": x, "transmitted": x + np.uint8(change), "reconstructions": x + np.uint8(30)}


def pixels(png: bytes) -> np.ndarray:
    return matplotlib.image.imread(io.BytesIO(png))


def test_equal_arguments_give_equal_bytes_without_traces() -> None:
    psnr = {"reconstructions": np.linspace(10, 30, 14)}
    png = picture(images(), "one cell", psnr)
    assert png.startswith(b"\x89PNG")
    assert png == picture(images(), "one cell", psnr)
    assert b"Software" not in png
    assert b"tEXt" not in png


@pytest.mark.parametrize("channels", [1, 3])
def test_grey_images_are_grey_and_colours_stay(channels: int) -> None:
    drawn = pixels(picture(images(channels=channels), "cell"))[..., :3]
    assert (np.ptp(drawn, axis=-1).max() < 0.01) == (channels == 1)


def test_captions_titles_and_unchanged_images() -> None:
    tricky = "ihc · dpsgd(sigma=0.1) $a_b$ [x] " * 8
    psnr = {"transmitted": np.full((14, 1), 100.0), "reconstructions": np.array([20.0, np.nan] * 7)}
    same = picture(images(change=0), tricky, psnr)
    assert same == picture(images(change=0), tricky, {"reconstructions": psnr["reconstructions"]})
    assert same != picture(images(change=0), tricky)


def test_no_more_than_twelve_columns_and_batches_side_by_side() -> None:
    many, few = pixels(picture(images(40), "cell")), pixels(picture(images(12), "cell"))
    assert many.shape == few.shape
    batched = {name: x.reshape(2, 7, 1, 28, 28) for name, x in images().items()}
    assert picture(batched, "cell") == picture(images(), "cell")


@pytest.mark.parametrize("kinds", [(), ("victims",), ("victims", "reconstructions")])
def test_what_is_lacking_is_left_out(kinds: tuple[str, ...]) -> None:
    assert picture({name: images()[name] for name in kinds}, "").startswith(b"\x89PNG")
