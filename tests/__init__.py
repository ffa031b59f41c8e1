"""A package, because a data set that the project depends on installs a package of the same name."""
