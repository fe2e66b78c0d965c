"""What hosts, files, operators and users may do to the server, by the command line."""
