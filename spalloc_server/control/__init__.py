"""What changes jobs, boards and machines, under the one lock of the controller."""
