"""What outlives the process: its files, their names, and who may use them."""
