"""May a rectangle of triads be given out? Pure: no clock, thread or socket."""
