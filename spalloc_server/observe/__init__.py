"""The seam for those who watch the server, its counts, and systemd."""
