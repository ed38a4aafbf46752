"""MedMNIST: the table is the publisher's, wrong flags are told, files of both kinds of labels and channels are read."""

from pathlib import Path

import numpy as np
import pytest

from gibench import registry
from gibench.datasets import files, medmnist_files
from gibench.datasets.medmnist import MedMnist, one_label
from gibench.datasets.medmnist_files import SETS, published_file
from gibench.errors import InputError


def test_table_is_the_publishers() -> None:
    info = pytest.importorskip("medmnist.info").INFO
    assert set(SETS) == {flag for flag in info if not flag.endswith("3d")}
    for flag, published in SETS.items():
        told = info[flag]
        assert published.channels == told["n_channels"]
        assert published.classes == (2 if flag == "chestmnist" else len(told["label"]))
        assert MedMnist(flag=flag).licence.split(";")[flag == "dermamnist"].endswith(told["license"])
        for size in (28, 64, 128, 224):
            mark = "" if size == 28 else f"_{size}"
            assert published.md5[size] == told[f"MD5{mark}"]
            assert published_file(flag, size).url == told[f"url{mark}"]
            assert published_file(flag, size).place == f"medmnist/{flag}{mark}.npz"


def test_short_names_are_the_flags_and_build_themselves_again() -> None:
    for spec in ("retinamnist", "pneumoniamnist(size=64)"):
        assert registry.build("datasets", spec).spec() == spec
    entry = registry.build("datasets", 'medmnist(flag="retinamnist", size=128)')
    assert entry == registry.build("datasets", "retinamnist(size=128)")
    assert entry.identity()["checksum"] == "md5:e48e916a24454daf90583d4e6efb1a18"


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ('medmnist(flag="organmnist3d")', "3-D sets cannot be used"),
        ('medmnist(flag="pneumoniamnst")', "did you mean 'pneumoniamnist'"),
        ("medmnist(size=32)", "should be 28, 64, 128 or 224"),
        ("retinamnist(sise=64)", "did you mean 'size'"),
    ],
)
def test_wrong_settings_are_told_in_one_line(spec: str, told: str) -> None:
    with pytest.raises(InputError, match=told) as error:
        registry.build("datasets", spec)
    assert "\n" not in str(error.value)


def test_any_finding_makes_the_second_class() -> None:
    findings = np.zeros((3, 14), np.uint8)
    findings[1, [2, 5]] = 1
    assert one_label(findings).tolist() == [0, 1, 0]
    assert one_label(np.array([[4], [0]], np.uint8)).tolist() == [4, 0]


@pytest.mark.parametrize("flag", ["chestmnist", "bloodmnist"])
def test_made_up_file_is_read_as_published_ones_are(flag: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every image is filled with its own number, so that pixels and labels can be traced to their split."""
    monkeypatch.setenv("GIBENCH_DATA", str(tmp_path))
    grey = flag == "chestmnist"
    arrays, start = {}, 0
    for split, n in (("train", 80), ("val", 40), ("test", 30)):
        number = np.arange(start, start + n, dtype=np.uint8)
        pixels = number[:, None, None] + np.zeros((n, 28, 28), np.uint8)
        arrays[f"{split}_images"] = pixels if grey else np.stack([pixels, pixels // 2, 0 * pixels], 3)
        arrays[f"{split}_labels"] = (
            (number[:, None] % 2 * np.eye(14, dtype=np.uint8)[3]) if grey else number[:, None] % 8
        )
        start += n
    (tmp_path / "medmnist").mkdir()
    np.savez(tmp_path / f"medmnist/{flag}.npz", **arrays)
    md5 = files.md5_of(tmp_path / f"medmnist/{flag}.npz")
    made_up = medmnist_files.Published(SETS[flag].classes, SETS[flag].channels, {28: md5})
    monkeypatch.setitem(SETS, flag, made_up)
    parts = MedMnist(flag=flag).load()
    for part, low, high in (("client", 0, 80), ("aux", 0, 80), ("val", 80, 120), ("tune", 80, 120), ("test", 120, 150)):
        images = getattr(parts, part)
        number = (images.x[:, 0, 0, 0] * 255).round().long()
        assert ((number >= low) & (number < high)).all()
        assert (images.y == number % (2 if grey else 8)).all()
        if not grey:
            assert ((images.x[:, 1] * 255).round() == (number // 2)[:, None, None]).all()
            assert (images.x[:, 2] == 0).all()
