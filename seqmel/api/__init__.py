"""The public API: a model with its methods, and the functions that make one."""
