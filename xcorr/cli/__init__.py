"""The command line. Each module holds one group of commands, which parse arguments, call functions and print."""
