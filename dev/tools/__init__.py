"""Tools that the targets of dev/Makefile run."""
