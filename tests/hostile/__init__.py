"""Attacks on the real server, each by what a client, a user or the hardware can do."""
