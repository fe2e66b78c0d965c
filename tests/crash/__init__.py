"""Kills real servers under load, and looks at what they know when they are back.

``python -m tests.crash --kills 200 --seed 1`` is the long form; ``test_crash.py`` runs
a short one with every test run.
"""
