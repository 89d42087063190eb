"""``python -m worldflux.cli`` is the ``worldflux`` command."""

from worldflux.cli import main

main()
