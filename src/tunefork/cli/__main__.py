"""`python -m tunefork.cli`: the same as `tunefork`."""

from tunefork.cli import main

main()
