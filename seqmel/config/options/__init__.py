"""The options of each section and method; `seqmel.config` checks them together.

Each method is a model of its own with its `name`; what stands beside the name are the arguments of
the class that it names.
"""
