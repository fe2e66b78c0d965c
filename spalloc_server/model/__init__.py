"""What is known of jobs and boards, as plain data: no threads, sockets or waiting."""
