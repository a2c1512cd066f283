"""The command line.

Each command is thin: it reads its options, calls the library, and prints what was done.
"""
