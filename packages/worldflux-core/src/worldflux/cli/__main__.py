"""``python -m worldflux.cli`` is the ``worldflux`` command."""

from worldflux.cli import main, without_working_directory

without_working_directory()
main()
