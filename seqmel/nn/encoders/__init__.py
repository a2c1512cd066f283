"""Sequence encoders: encoded events of a batch -> states, one per event.

An encoder is one file here, with the name of the encoder, such as `Transformer` in
`transformer.py`. Its constructor takes `input_size`, the width of an encoded event; its other
arguments are its options in a config. It sets `output_size`, the width of a state. GRU and LSTM
are two encoders of one class, in `recurrent.py`, with options of their own.
"""

from collections.abc import Callable

from torch import nn

from seqmel.core.modules import classes_by_file

__all__ = ["ENCODERS"]

ENCODERS: dict[str, Callable[..., nn.Module]] = dict(classes_by_file(__name__, nn.Module))
"""Name in the config -> sequence encoder, without GRU and LSTM."""

del ENCODERS["recurrent"]
