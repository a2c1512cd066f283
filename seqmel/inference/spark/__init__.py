"""Spark as the engine of preparation and embedding, for events that exceed one machine.

It needs the extra `seqmel[spark]`. Spark partitions the input, groups events by client and sorts
them. Each partition is then processed by the code of the embedded engine. So preparation is defined
only once.
"""
