"""A model of all clients' events, then a hundred labels on top of it.

    python examples/few_labels.py

With so few labels the encoder stays as it is and only the heads are learnt; docs/how-to/finetune.md
says from how many on that changes.
"""

from __future__ import annotations

from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split

from seqmel import EventSequences, SequenceClassifier, SequenceEmbedder, generate_card_data


def main() -> None:
    """Train without labels, fine-tune with a hundred, predict the rest."""
    data = generate_card_data(300, seed=0)
    events = EventSequences.read(data.events)
    clients = events.align(
        data.clients.to_pandas()
    )  # in the order of the sequences, whatever that of the table
    older = clients["age"] >= 45

    # No labels here, so all clients may be learnt from.
    embedder = SequenceEmbedder(event_encoder={"hidden_size": 32}, epochs=3, random_state=0).fit(
        events
    )

    labelled, others = train_test_split(
        range(len(events)), train_size=100, stratify=older, random_state=0
    )
    classifier = SequenceClassifier.from_pretrained(embedder.model_, random_state=0)
    classifier.fit(events[labelled], older.iloc[labelled])
    chance = classifier.predict_proba(events[others])[
        :, 1
    ]  # columns in the order of classifier.classes_: False, True
    print(
        f"AUROC {roc_auc_score(older.iloc[others], chance):.3f} on {len(others)} clients without a "
        "label"
    )

    # The folder that `seqmel predict` reads.
    classifier.save("older-model", overwrite=True)


if __name__ == "__main__":
    main()
