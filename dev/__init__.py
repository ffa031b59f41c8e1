"""What only maintainers run: suites that need a stack, Docker or a cluster; benchmarks; tools."""
