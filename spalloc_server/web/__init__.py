"""Web pages about the machines and jobs, and metrics, served by a thread of their own.

Needs the extra ``spalloc_server[web]``; nothing else in the package imports it unless
``--http`` is given. The server's loop never waits for it: what is shown crosses over
as a `~.snapshot.Snapshot` that the loop takes when it is asked to.
"""
