"""The options of the methods that a training is put together from; `seqmel.config` holds the rest and checks that they fit.

Each method is a model of its own with its `name`; what stands beside the name are the arguments of the class that it names.
"""
