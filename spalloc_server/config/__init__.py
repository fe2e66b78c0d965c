"""What a config file says, what is wrong with it, and what a reload changes."""
