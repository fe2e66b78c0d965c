"""One frame's boards: what is asked of its BMP, in which order, in which packets."""
