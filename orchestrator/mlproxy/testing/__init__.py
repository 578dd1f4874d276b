"""For tests of plugins: fakes and the conformance suite."""
