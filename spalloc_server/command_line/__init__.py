"""The commands that people type, and the process around the server."""
