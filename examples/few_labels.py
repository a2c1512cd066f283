"""Train on the events of all clients, then fine-tune with a hundred labels.

    python examples/few_labels.py

With so few labels the encoder stays frozen and only the heads are trained.
"""

from __future__ import annotations

from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split

import seqmel


def main() -> None:
    """Train without labels, fine-tune with a hundred, predict the rest."""
    data = seqmel.generate_card_data(300, seed=0)
    labels = data.clients.to_pandas()
    labels["older"] = labels["age"] >= 45
    train, test = train_test_split(labels, train_size=100, stratify=labels["older"], random_state=0)

    model = seqmel.train(data.events, epochs=3, event_encoder={"hidden_size": 32})
    tuned = model.finetune(data.events, train, "older-model", target="older", overwrite=True)

    chance = tuned.predict(data.events)["older=True"]
    auroc = roc_auc_score(test["older"], chance.loc[test["client_id"]])
    print(f"AUROC {auroc:.3f} on {len(test)} clients without a label")


if __name__ == "__main__":
    main()
