"""Missing, truncated, unreadable and downloaded files: one line each, and a user's file is never touched."""

import gzip
import hashlib
import os
import shutil
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from gibench import registry
from gibench.datasets import files
from gibench.datasets.files import File, checksum_of, ensure
from gibench.errors import InputError

CONTENT = b"what the publisher shipped" * 1000
MD5 = hashlib.md5(CONTENT).hexdigest()
ORIGINAL_DOWNLOAD = files.download  # before the session's fixture replaces it


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GIBENCH_DATA", str(tmp_path))
    return tmp_path


def refusal(name: str, *wanted: File) -> str:
    with pytest.raises(InputError) as error:
        ensure(name, wanted)
    assert "\n" not in str(error.value)
    return str(error.value)


def serve(content: bytes, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    asked: list[str] = []

    def download(url: str, target: Path) -> None:
        asked.append(url)
        target.write_bytes(content)

    monkeypatch.setattr(files, "download", download)
    return asked


def test_data_folder_is_the_users_or_the_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("GIBENCH_DATA", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert files.data_folder() == tmp_path / ".cache/gibench/data"
    monkeypatch.setenv("GIBENCH_DATA", "~/mine")
    assert files.data_folder() == tmp_path / "mine"


def test_missing_file_offline(folder: Path) -> None:
    told = refusal("some", File("sub/some.npz", MD5, "https://example.org/some.npz"))
    for part in ("some:", str(folder / "sub/some.npz"), MD5, "could not be downloaded", "offline", "GIBENCH_DATA"):
        assert part in told
    assert list((folder / "sub").iterdir()) == []


def test_every_published_set_tells_its_missing_file(folder: Path) -> None:
    for name in ("mnist", "fashion_mnist", "cifar10", "bloodmnist", "retinamnist(size=64)"):
        entry = registry.build("datasets", name)
        for act in (entry.ensure, entry.load):  # type: ignore[attr-defined]
            with pytest.raises(InputError, match=r"MD5 [0-9a-f]{32}\) is missing and could not be downloaded"):
                act()


def test_right_file_is_not_asked_for_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = serve(CONTENT, monkeypatch)
    (folder / "some.npz").write_bytes(CONTENT)
    ensure("some", (File("some.npz", MD5, "https://example.org/some.npz"),))
    assert asked == []


def test_truncated_file_is_told_and_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = serve(CONTENT, monkeypatch)
    (folder / "some.npz").write_bytes(CONTENT[:-1])
    told = refusal("some", File("some.npz", MD5, "https://example.org/some.npz"))
    assert hashlib.md5(CONTENT[:-1]).hexdigest() in told
    assert f"expected {MD5}" in told
    assert asked == []
    assert (folder / "some.npz").read_bytes() == CONTENT[:-1]


def test_download_is_checked_before_it_gets_its_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = File("sub/some.npz", MD5, "https://example.org/some.npz?download=1")
    serve(CONTENT[:-1], monkeypatch)
    assert "what arrived has MD5" in refusal("some", wanted)
    assert list((folder / "sub").iterdir()) == []
    asked = serve(CONTENT, monkeypatch)
    ensure("some", (wanted,))
    assert asked == [wanted.url]
    assert (folder / "sub/some.npz").read_bytes() == CONTENT
    assert len(list((folder / "sub").iterdir())) == 1


def test_gzipped_download_is_unpacked(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = File("raw/labels", MD5, "https://example.org/labels.gz")
    packed = gzip.compress(CONTENT)
    for broken in (packed[:-20], packed[:30] + b"\0" * 40 + packed[70:], CONTENT):
        serve(broken, monkeypatch)
        assert "could not be downloaded" in refusal("some", wanted)
    serve(packed, monkeypatch)
    ensure("some", (wanted,))
    assert (folder / "raw/labels").read_bytes() == CONTENT


def test_unwritable_folder_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("GIBENCH_DATA", str(tmp_path / "file"))
    assert "cannot be written" in refusal("some", File("sub/some.npz", MD5, "https://example.org/some.npz"))


def test_unreadable_path_is_told(folder: Path) -> None:
    (folder / "some.npz").mkdir()
    assert "cannot be read" in refusal("some", File("some.npz", MD5, "https://example.org/some.npz"))


def test_download_fetches_and_fails_as_promised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against a server on this machine."""
    monkeypatch.setenv("no_proxy", "*")
    (tmp_path / "some").write_bytes(CONTENT)

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    try:
        ORIGINAL_DOWNLOAD(f"{address}/some", tmp_path / "here")
        assert (tmp_path / "here").read_bytes() == CONTENT
        with pytest.raises(OSError, match="404"):
            ORIGINAL_DOWNLOAD(f"{address}/absent", tmp_path / "there")
    finally:
        server.shutdown()
        server.server_close()
    with pytest.raises(OSError, match="refused"):
        ORIGINAL_DOWNLOAD(f"{address}/some", tmp_path / "there")


def test_checksum_of_several_files_hangs_on_each() -> None:
    one, two = File("a", "1" * 32, ""), File("b", "2" * 32, "")
    assert checksum_of((one,)) == "md5:" + "1" * 32
    assert len({checksum_of((one, two)), checksum_of((two, one)), checksum_of((one,))}) == 3


def test_truncated_original_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = os.environ.get("GIBENCH_DATA")
    place = "medmnist/breastmnist.npz"
    if given is None or not (Path(given) / place).exists():
        pytest.skip(f"set GIBENCH_DATA to a folder with {place}")
    (tmp_path / "medmnist").mkdir()
    shutil.copyfile(Path(given) / place, tmp_path / place)
    monkeypatch.setenv("GIBENCH_DATA", str(tmp_path))
    entry = registry.build("datasets", "breastmnist")
    entry.ensure()  # type: ignore[attr-defined]
    with (tmp_path / place).open("r+b") as file:
        file.truncate(500_000)
    with pytest.raises(InputError, match="expected 750601b1f35ba3300ea97c75c52ff8f6: truncated or altered"):
        entry.load()  # type: ignore[attr-defined]
    assert (tmp_path / place).stat().st_size == 500_000
