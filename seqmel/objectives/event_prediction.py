"""Event prediction: from the vector of one view, what the events of another view of the same client are.

The distributed bag of words of paragraph vectors (Le, Mikolov, arXiv 1405.4053, section 2.3) with events for words: the
loss is the mean negative log-likelihood of the events of the next view of the same client, under what a decoder makes of
the vector; every view counts the same, however long. Where a contrastive part keeps what tells clients apart, this one
keeps what their events are like, and it goes on teaching when clients are told apart without a mistake. The two
together follow MLEM (arXiv 2401.15935) and CMLM + CoLES (arXiv 2408.09995), in a form for any encoder and pooling.
"""

from __future__ import annotations

from torch import Tensor, nn

from seqmel.core.distributed import all_reduce_mean
from seqmel.data.vocabulary import Vocabulary
from seqmel.nn.decoder import EventDecoder
from seqmel.objectives.encoded import Encoded

__all__ = ["EventPrediction"]


class EventPrediction(nn.Module):
    """See the module's text.

    Args:
        vocabulary: names the features that are foretold.
        embedding_size: width of the encoder's vectors.
        head_size: width of the decoder's inner layer.
    """

    def __init__(self, vocabulary: Vocabulary, *, embedding_size: int, head_size: int = 256) -> None:
        super().__init__()
        self.decoder = EventDecoder(vocabulary, input_size=embedding_size, hidden_size=head_size)

    def forward(self, encoded: Encoded) -> Tensor:
        """The loss of a batch, a scalar in nats an event. A view with no other of its client foretells itself."""
        events = encoded.batch.sequences
        view = events.sequence_index
        costs = self.decoder.costs(encoded.vectors, encoded.batch.others[view], events)
        lengths = events.offsets.diff().clamp(min=1)
        return all_reduce_mean((costs / lengths[view]).sum(), len(events))
