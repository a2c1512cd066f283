"""Embeddings beside static features in one pipeline, its options chosen by a grid search over clients.

    python examples/grid_search.py

X is the table of clients. The embedder looks the events up by client id, and in each fold it is
trained on the events of the training clients alone.
"""

from __future__ import annotations

from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from seqmel import EventSequences, SequenceEmbedder, generate_card_data


def main() -> None:
    """Print the scores of the grid."""
    data = generate_card_data(150, seed=0)
    clients, events = data.clients.to_pandas(), EventSequences.read(data.events)
    older = clients["age"] >= 45

    embedder = SequenceEmbedder(
        events=events, event_encoder={"hidden_size": 16}, epochs=2, random_state=0
    )
    features = ColumnTransformer(
        [
            ("embedding", embedder, ["client_id"]),
            ("static", OneHotEncoder(sparse_output=False), ["gender"]),
        ]
    )
    model = make_pipeline(features, StandardScaler(), LogisticRegression(C=0.01, max_iter=1000))

    # A part of the embedder has a name and options of its own: encoder, encoder__hidden_size,
    # views__max_length, ...
    grid = {
        "columntransformer__embedding__event_encoder__hidden_size": [16, 32],
        "columntransformer__embedding__pooling": ["mean", ("mean", "std", "max", "log_sum")],
    }
    folds = StratifiedKFold(2, shuffle=True, random_state=0)
    search = GridSearchCV(model, grid, cv=folds, scoring="roc_auc", error_score="raise")
    search.fit(clients, older)

    for options, value in zip(
        search.cv_results_["params"], search.cv_results_["mean_test_score"], strict=True
    ):
        chosen = {name.rpartition("embedding__")[2]: option for name, option in options.items()}
        print(f"AUROC {value:.3f}  {chosen}")
    print(f"{search.predict(clients).sum()} of {len(clients)} clients are taken for 45 or older")


if __name__ == "__main__":
    main()
