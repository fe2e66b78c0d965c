"""The main job, done by released clients that nobody here wrote.

The rounds run once for each release of the client and each machine. What the other
releases do is marked ``slow`` and ``clients``: ``-m "not clients"`` leaves it away.
"""
