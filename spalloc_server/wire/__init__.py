"""Sockets and lines; knows no command."""
