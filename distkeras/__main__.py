"""`python -m distkeras` is the command `distkeras`."""

from distkeras.cli.main import main

main()
