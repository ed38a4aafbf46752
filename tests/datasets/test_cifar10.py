"""CIFAR-10 from an archive in the published layout, made small."""

import hashlib
import io
import pickle
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from gibench.datasets import cifar10
from gibench.datasets.files import md5_of
from gibench.errors import InputError


def test_archive_is_torchvisions() -> None:
    from torchvision.datasets import CIFAR10

    told = (CIFAR10.filename, CIFAR10.tgz_md5, CIFAR10.url)
    assert told == (cifar10.ARCHIVE.place, cifar10.ARCHIVE.md5, cifar10.ARCHIVE.url)


def test_reads_the_checked_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.datasets import CIFAR10

    monkeypatch.setenv("GIBENCH_DATA", str(tmp_path))
    contents = {"batches.meta": {"label_names": [str(i) for i in range(10)]}}
    for i, name in enumerate(["data_batch_1", "data_batch_2", "test_batch"]):
        number = np.arange(100, dtype=np.uint8)
        pixels = np.concatenate([np.repeat(number[:, None] + channel, 1024, 1) for channel in (0, 50, 100)], 1)
        pixels[:, 1] = 200 + i  # second pixel of the first row of the first channel
        contents[name] = {"data": pixels, "labels": [int(n) % 10 for n in number]}
    digests = {}
    with tarfile.open(tmp_path / cifar10.ARCHIVE.place, "w:gz") as archive:
        for name, content in contents.items():
            raw = pickle.dumps(content)
            digests[name] = hashlib.md5(raw).hexdigest()
            member = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            member.size = len(raw)
            archive.addfile(member, io.BytesIO(raw))
    monkeypatch.setattr(CIFAR10, "train_list", [[n, digests[n]] for n in ("data_batch_1", "data_batch_2")])
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", digests["test_batch"]]])
    monkeypatch.setattr(CIFAR10, "meta", CIFAR10.meta | {"md5": digests["batches.meta"]})
    with pytest.raises(InputError, match=r"expected c58f30108f718f92721af3b95e74349a"):
        cifar10.Cifar10().load()

    right = replace(cifar10.ARCHIVE, md5=md5_of(cifar10.ARCHIVE.path))
    monkeypatch.setattr(cifar10, "ARCHIVE", right)
    parts = cifar10.Cifar10().load()
    assert [len(getattr(parts, part).y) for part in ("client", "aux", "val", "tune", "test")] == [90, 90, 10, 10, 100]
    assert (parts.test.x[:, 0, 0, 1] * 255).round().unique().tolist() == [202]
    assert (parts.client.x[:, 0, 0, 1] * 255).round().unique().tolist() == [200, 201]
    number = (parts.test.x[:, 0, 5, 5] * 255).round()
    assert torch.equal((parts.test.x[:, 2, 5, 5] * 255).round(), number + 100)
    assert torch.equal(parts.test.y, number.long() % 10)
    assert sorted(path.name for path in tmp_path.iterdir()) == [right.place]
