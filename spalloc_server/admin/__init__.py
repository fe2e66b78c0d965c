"""What operators may ask of a running server, and tell it: ``spalloc_server_admin``."""
