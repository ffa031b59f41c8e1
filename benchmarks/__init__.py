"""What the project costs, measured: ``make bench``."""
