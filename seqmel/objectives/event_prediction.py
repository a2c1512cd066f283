"""Event prediction: predict the events of one view from the vector of another view."""

from __future__ import annotations

from collections.abc import Container

from torch import Tensor, nn

from seqmel.core.distributed import all_reduce_mean
from seqmel.data.vocabulary import Vocabulary
from seqmel.nn.decoder import EventDecoder
from seqmel.objectives.encoded import Encoded

__all__ = ["EventPrediction"]


class EventPrediction(nn.Module):
    """Predicts the events of the next view of a client from the vector of a view.

    The distributed bag of words of paragraph vectors (Le, Mikolov, arXiv 1405.4053, section 2.3),
    with events for words. The loss is the negative log-likelihood of the events of the next view,
    averaged over the events of a view and then over views. A contrastive part keeps what
    distinguishes clients. This part keeps what their events are like, and still learns when clients
    are distinguished without error. Together they follow MLEM (arXiv 2401.15935) and CMLM + CoLES
    (arXiv 2408.09995), for any encoder and pooling.

    Args:
        vocabulary: Names the predicted features.
        embedding_size: Width of the encoder's vectors.
        head_size: Width of the decoder's hidden layer.
        without: Names of the `CYCLES` by which the clock of each view is shifted. They are not
            predicted.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        *,
        embedding_size: int,
        head_size: int = 256,
        without: Container[str] = (),
    ) -> None:
        super().__init__()
        self.decoder = EventDecoder(
            vocabulary, input_size=embedding_size, hidden_size=head_size, without=without
        )

    def forward(self, encoded: Encoded) -> Tensor:
        """Compute the loss of a batch, in nats per event. A single view predicts its own events."""
        events = encoded.batch.sequences
        view = events.sequence_index
        costs = self.decoder.costs(encoded.vectors, encoded.batch.others[view], events)
        lengths = events.offsets.diff().clamp(min=1)
        return all_reduce_mean((costs / lengths[view]).sum(), len(events))
