"""Ground.

Errors, progress, devices, distributed collectives, atomic files, checksums. Imports nothing of
seqmel.
"""
