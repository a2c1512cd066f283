"""Embeddings, hand-crafted aggregates and both in scikit-learn, on generated card transactions.

python examples/sklearn_pipeline.py [CLIENTS]
"""

from __future__ import annotations

import sys

from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from seqmel import AggregateFeatures, EventSequences, SequenceEmbedder, generate_card_data


def main(count: int) -> None:
    """Print the AUROC of each feature set over three folds of clients."""
    data = generate_card_data(count, seed=0)
    clients = data.clients.to_pandas()
    events = EventSequences.read(data.events)
    small = {"hidden_size": 64}
    embedder = SequenceEmbedder(events=events, event_encoder=small, epochs=3, random_state=0)
    embeddings = ("embeddings", embedder, ["client_id"])
    aggregates = ("aggregates", AggregateFeatures(events=events), ["client_id"])
    for parts in ([embeddings], [aggregates], [embeddings, aggregates]):
        # In each fold the embedder is trained on the events of the training clients only.
        model = make_pipeline(
            ColumnTransformer(parts),
            SimpleImputer(keep_empty_features=True),
            StandardScaler(),
            LogisticRegression(C=0.01, max_iter=1000),
        )
        scores = cross_val_score(model, clients, clients["gender"], cv=3, scoring="roc_auc")
        name = " + ".join(part[0] for part in parts)
        print(f"{name:<23} AUROC {scores.mean():.3f} ± {scores.std():.3f} over folds")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 300)
