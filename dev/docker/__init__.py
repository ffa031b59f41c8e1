"""A Docker engine and stand-in images for machines without them; the tests use both."""
