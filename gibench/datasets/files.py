"""Published files: where they lie, whether they are the right ones, and how they get there.

Data lies in the folder that GIBENCH_DATA names, otherwise in ~/.cache/gibench/data. A file that is there is checked
and never changed or removed; one that is missing is downloaded beside its place, checked, and only then given its name.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import socket
import tempfile
import zlib
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import Request, getproxies, urlopen

from gibench.errors import InputError


@dataclass(frozen=True)
class File:
    """One published file: its place under the data folder, its MD5, and its address, where it may be gzipped."""

    place: str
    md5: str
    url: str

    @property
    def path(self) -> Path:
        return data_folder() / self.place

    @property
    def zipped(self) -> bool:
        return self.url.endswith(".gz") and not self.place.endswith(".gz")


def data_folder() -> Path:
    given = os.environ.get("GIBENCH_DATA")
    return Path(given).expanduser() if given else Path.home() / ".cache" / "gibench" / "data"


def md5_of(path: Path) -> str:
    """Hex digest of a file of any size."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def checksum_of(files: tuple[File, ...]) -> str:
    """The MD5 of one file; for several the SHA-256 of their MD5s in order."""
    if len(files) == 1:
        return f"md5:{files[0].md5}"
    return "sha256:" + hashlib.sha256(" ".join(file.md5 for file in files).encode()).hexdigest()


def ensure(name: str, files: tuple[File, ...]) -> None:
    """Every file of the dataset `name` is present and right afterwards, or an InputError tells in one line why not."""
    for file in files:
        if not file.path.exists():
            _obtain(name, file)
        elif (found := _checked(name, file.path)) != file.md5:
            raise InputError(
                f"{name}: {file.path} has MD5 {found}, expected {file.md5}: truncated or altered;"
                f" move it away and put the original in its place ({file.url})"
            )


def download(url: str, target: Path) -> None:
    """Writes what lies at `url` to `target`. Raises OSError or HTTPException, offline within seconds."""
    address = urlsplit(url)
    if not getproxies():  # a dead network is noticed here, so that the patience below is for slow servers only
        port = address.port or {"http": 80, "https": 443}[address.scheme]
        socket.create_connection((address.hostname or "", port), timeout=2).close()
    request = Request(url, headers={"User-Agent": "gibench"})
    with urlopen(request, timeout=30) as reply, target.open("wb") as file:
        shutil.copyfileobj(reply, file)


def _checked(name: str, path: Path) -> str:
    try:
        return md5_of(path)
    except OSError as error:
        raise InputError(f"{name}: {path} cannot be read: {error.strerror}") from None


def _obtain(name: str, file: File) -> None:
    wanted = f"{name}: {file.path} (MD5 {file.md5}) is missing and"
    advice = f"put the file there or set GIBENCH_DATA to the folder that holds {file.place}"
    try:
        file.path.parent.mkdir(parents=True, exist_ok=True)
        room = tempfile.TemporaryDirectory(prefix=".incoming-", dir=file.path.parent)
    except OSError as error:
        raise InputError(f"{wanted} {file.path.parent} cannot be written ({error.strerror}); {advice}") from None
    with room:
        arrived = Path(room.name) / "arrived"
        try:
            download(file.url, arrived)
            if file.zipped:
                packed = arrived.rename(arrived.with_suffix(".gz"))
                with gzip.open(packed) as source, arrived.open("wb") as target:
                    shutil.copyfileobj(source, target)
            if (found := md5_of(arrived)) != file.md5:
                raise OSError(f"what arrived has MD5 {found}")
        except (OSError, EOFError, HTTPException, zlib.error) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise InputError(f"{wanted} could not be downloaded from {file.url} ({reason}); {advice}") from None
        arrived.replace(file.path)
