"""The loop, the commands, their arguments and their replies."""
