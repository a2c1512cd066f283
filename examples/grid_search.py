"""Search options of embeddings in a scikit-learn pipeline with static features.

    python examples/grid_search.py

X is the table of clients. In each fold the embedder is trained on the events of its clients only.
"""

from __future__ import annotations

from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import seqmel

# Names of parts and of their options: encoder, encoder__hidden_size, views__max_length, ...
GRID = {
    "features__embedding__event_encoder__hidden_size": [16, 32],
    "features__embedding__pooling": ["mean", ("mean", "std", "max", "log_sum")],
}


def main() -> None:
    """Print the scores of the grid."""
    data = seqmel.generate_card_data(150, seed=0)
    clients = data.clients.to_pandas()
    events = seqmel.EventSequences.read(data.events)
    small = {"hidden_size": 16}
    embedder = seqmel.SequenceEmbedder(events=events, event_encoder=small, epochs=2, random_state=0)
    parts = [("embedding", embedder, ["client_id"]), ("static", OneHotEncoder(), ["gender"])]
    features = ColumnTransformer(parts, sparse_threshold=0)
    logistic = LogisticRegression(C=0.01, max_iter=1000)
    steps = [("features", features), ("scaler", StandardScaler()), ("logistic", logistic)]

    search = GridSearchCV(Pipeline(steps), GRID, cv=2, scoring="roc_auc", error_score="raise")
    search.fit(clients, clients["age"] >= 45)
    found = search.cv_results_
    for options, value in zip(found["params"], found["mean_test_score"], strict=True):
        print(f"AUROC {value:.3f}  {list(options.values())}")
    print(f"{search.predict(clients).sum()} of {len(clients)} are predicted to be 45 or older")


if __name__ == "__main__":
    main()
