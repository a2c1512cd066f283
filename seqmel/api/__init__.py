"""What users of Python hold: a model with its verbs, and what makes one."""
