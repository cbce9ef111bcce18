"""The container runtimes under test, each started by the tests with all its state in the test's own folder."""
