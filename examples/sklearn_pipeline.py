"""Embeddings, hand-crafted aggregates and both in scikit-learn, on generated card transactions.

python examples/sklearn_pipeline.py [CLIENTS]
"""

from __future__ import annotations

import sys

from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from seqmel import AggregateFeatures, EventSequences, SequenceEmbedder, generate_card_data


def classifier(features: list[tuple[str, object, list[str]]]) -> Pipeline:
    """Columns of the clients' table -> features -> gender."""
    return make_pipeline(
        ColumnTransformer(features),
        SimpleImputer(keep_empty_features=True),
        StandardScaler(),
        LogisticRegression(C=0.01, max_iter=1000),
    )


def main(count: int) -> None:
    """Print the AUROC of each set of features, 3 folds of clients."""
    data = generate_card_data(count, seed=0)
    clients, events = data.clients.to_pandas(), EventSequences.read(data.events)
    print(events)

    embedder = SequenceEmbedder(
        events=events, event_encoder={"hidden_size": 64}, epochs=3, random_state=0
    )
    embeddings = ("embeddings", embedder, ["client_id"])
    aggregates = ("aggregates", AggregateFeatures(events=events, most_categories=20), ["client_id"])
    sets = {
        "embeddings": [embeddings],
        "aggregates": [aggregates],
        "both": [embeddings, aggregates],
    }
    for name, features in sets.items():
        # In each fold the embedder is trained on the events of the training clients alone.
        scores = cross_val_score(
            classifier(features),
            clients,
            clients["gender"],
            cv=3,
            scoring="roc_auc",
            error_score="raise",
        )
        print(
            f"{name:<11} AUROC {scores.mean():.3f} (folds "
            f"{', '.join(f'{score:.3f}' for score in scores)})"
        )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 300)
