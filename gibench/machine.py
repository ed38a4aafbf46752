"""Where a result comes from: commit, versions, processor, memory."""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import subprocess
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from gibench import __version__

LIBRARIES = ("torch", "torchvision", "numpy", "scipy", "scikit-image", "scikit-learn", "opacus")


@cache
def commit() -> tuple[str, bool | None]:
    """The commit of this source tree and whether tracked files differ from it; the version where there is no git."""
    root = Path(__file__).parent.parent
    try:
        head = _git(root, "rev-parse", "HEAD").strip()
        inside = Path(_git(root, "rev-parse", "--show-toplevel").strip()) == root.resolve()
        if inside:
            return head, bool(_git(root, "status", "--porcelain", "--untracked-files=no").strip())
    except (OSError, subprocess.CalledProcessError):
        pass  # not a checkout: an installed package is named by its version
    return f"v{__version__}", None


def provenance(device: str) -> dict[str, Any]:
    """What a stored file says about its origin."""
    import torch

    head, dirty = commit()
    return {
        "commit": head + ("-dirty" if dirty else ""),
        "dirty": dirty,
        "python": platform.python_version(),
        "versions": {"gibench": __version__} | {name: _version(name) for name in LIBRARIES},
        "cpu": _cpu(),
        "gpu": torch.cuda.get_device_name(device) if device.startswith("cuda") else None,
    }


def peak_mib(device: str) -> float:
    """Largest memory so far, of the GPU where one is used, otherwise of this process, in MiB."""
    import torch

    if device.startswith("cuda"):
        return float(torch.cuda.max_memory_allocated(device)) / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def keep_freed_memory() -> None:
    """Let the allocator of this process keep what is freed, up to 2 GiB, instead of returning it to the kernel.

    A training step takes again what the last one freed; fetching it page by page can cost as much as the step. Only
    glibc is told; elsewhere nothing happens.
    """
    mallopt = getattr(ctypes.CDLL(None) if os.name == "posix" else None, "mallopt", None)
    if mallopt is not None:
        mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD: only more than that at the top of the heap goes back
        mallopt(-3, 2**30)  # M_MMAP_THRESHOLD: only larger blocks are mapped, and unmapped when freed
        mallopt(-2, 2**26)  # M_TOP_PAD: the heap grows in such pieces


@cache
def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _git(root: Path, *arguments: str) -> str:
    return subprocess.run(["git", "-C", str(root), *arguments], check=True, capture_output=True, text=True).stdout
