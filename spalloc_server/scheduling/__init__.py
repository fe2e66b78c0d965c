"""Who of those that wait is next? Pure: no clock, thread or socket."""
