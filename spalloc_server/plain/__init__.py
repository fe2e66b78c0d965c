"""Plain data: what is kept of objects, without the objects."""
