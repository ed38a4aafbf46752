"""A process that keeps the memory it frees does not fetch it again page by page."""

import os
import platform
import subprocess
import sys

import pytest

STEPS = """
import resource, sys
from gibench.machine import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
def step():
    first, second = bytearray(40 << 20), bytearray(40 << 20)
step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library decides by itself what it keeps")
def test_what_a_step_freed_the_next_one_has_at_once() -> None:
    bare = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    faults = {how: _faults(how, bare) for how in ("return", "keep")}
    assert faults["return"] > 1000, "these steps show nothing"
    assert faults["keep"] < 0.02 * faults["return"]


def _faults(how: str, environment: dict[str, str]) -> int:
    command = [sys.executable, "-c", STEPS, how]
    return int(subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout)
