"""`python -m gibench` is `gibench`."""

from gibench.cli import main

main()
