"""The rules, without I/O: nothing in here reads a clock, a file or a socket."""
