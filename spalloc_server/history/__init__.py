"""What happened to jobs, kept on disk, and sums of it."""
