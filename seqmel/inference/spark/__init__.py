"""Spark as the engine of preparation and embedding, for events that outgrow one machine (extra `seqmel[spark]`).

Spark splits the reading, brings the events of a client together and sorts them; what is done to the events of a part is
the code of the embedded engine, run on each part. So there is one definition of the preparation.
"""
