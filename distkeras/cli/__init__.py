"""The command line: what a user types, what it prints, and with which code it ends."""
