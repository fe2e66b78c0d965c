"""What hosts, files, operators and users do to a server that they do not wish well.

Every case goes through the real command line. The quick ones are part of every run; all
of them: ``pytest tests/hostile``.
"""
