"""The tests: ``test_<module>.py`` for each module, what they share beside them."""
