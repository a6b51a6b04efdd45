"""The command line: a module for a group of commands, which parses, calls and prints."""
