"""A gateway to the server for clients of the newer interface, over HTTPS.

It is a program of its own, and a client of the server's port like any other: the
server's loop carries none of its work, and either can be restarted without the other.
"""
