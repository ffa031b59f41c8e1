"""What only maintainers run: suites, benchmarks and tools; see README.md."""


class MissingError(Exception):
    """Something that a suite needs is missing; the message says how to get it."""
