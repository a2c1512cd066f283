"""Options that modify other methods, listed by `seqmel methods` beside the named methods."""

from __future__ import annotations

__all__ = ["CHANGES"]

CHANGES: dict[str, dict[str, str]] = {
    "modifiers": {
        "views.event_dropout": "Leaves out each event of a view with this chance; one stays.",
        "views.day_dropout": (
            "Leaves out each day of a view, with all its events, with this chance; one stays."
        ),
        "views.shuffle": (
            "Mixes the order of a view's events in training, to learn what order is worth."
        ),
        "views.shift_clock": (
            "Shifts the phase of these cycles of the calendar at random, so "
            "that time alone tells no client apart."
        ),
        "event_encoder.category_dropout": (
            "Hides each category of an event with this chance, as unseen or rare."
        ),
        "event_encoder.noise": (
            "Adds noise of this standard deviation to the embedded features of an event."
        ),
    },
    "memory": {
        "miner.memory": (
            "So many embeddings of earlier batches are compared with as well: cross-batch memory."
        ),
    },
    "categories": {
        "event_encoder.category_init=ppmi": (
            "Embeddings of categories begin near those of what stands near the same others."
        ),
    },
    "margins": {
        "loss.margin_start": (
            "The margin grows from this over the training, in losses that can grow theirs."
        ),
    },
}
"""Section -> option of the config, as `--set` takes it -> a line on it."""
