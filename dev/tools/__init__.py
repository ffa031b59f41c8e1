"""What contributors run through make: ``bump`` and ``reference``."""
