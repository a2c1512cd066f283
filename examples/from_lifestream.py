"""Moving from pytorch-lifestream: its prepared data are read as they are, and its steps have these names here.

    python examples/from_lifestream.py

| pytorch-lifestream | seqmel |
|---|---|
| `PandasDataPreprocessor(col_id, col_event_time, ...).fit_transform(frame)` | nothing: `train` reads raw events, and the vocabulary is fitted once and kept in the model |
| `ParquetDataset(ParquetFiles(path).data_files)`, `MemoryMapDataset(records)` | the path, or the list of feature dictionaries, in place of events |
| `SeqLenFilter(min_seq_len=25)` | nothing needed; or `sequences[sequences.lengths >= 25]` of `EventSequences` |
| `ColesDataset(data, SampleSlices(split_count=5, cnt_min=25, cnt_max=200))` | `views: {count: 5, min_length: 25, max_length: 200}` |
| `TrxEncoder(embeddings={"mcc": ...}, numeric_values={"amount": "log"})` | inferred; `schema: {categorical: [mcc], numeric: [amount]}` says it |
| `RnnSeqEncoder(trx_encoder, hidden_size=256, type="gru")` | `encoder: {name: gru, hidden_size: 256}`, `pooling: last` |
| `CoLESModule(seq_encoder, ...)` and `pl.Trainer(max_epochs=15).fit(module, data_module)` | `train(events, "model", config=config)` |
| `ContrastiveLoss(margin=0.5, HardNegativePairSelector(neg_count=5))` | `loss: {name: contrastive, margin: 0.5, reduction: sum}`, `miner: {name: hard_negatives, k: 5}` |
| `trainer.predict(InferenceModule(module), loader)`, joined to ids by position | `embed_to_parquet(model, events, "e.parquet")`, ids beside the vectors |
| `SequenceToTarget(seq_encoder, head, loss, ...)` | `finetune(model, events, labels, "tuned", targets=["target"])` |
| `torch.save(module.seq_encoder.state_dict(), path)` | the model folder; `load_model("model")` |
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch

from seqmel import (
    Config,
    EventSequences,
    embed_to_parquet,
    generate_card_data,
    load_model,
    read_embeddings,
    train,
)


def feature_dictionaries(count: int) -> list[dict[str, Any]]:
    """What its preprocessor gives: a dictionary a client; times in seconds, categories as codes from 1 on, tensors or arrays."""
    data = generate_card_data(count, seed=0)
    events = data.events.to_pandas().sort_values(["client_id", "event_time"], kind="stable")
    coded = pd.DataFrame(
        {
            "client_id": events["client_id"],
            "event_time": events["event_time"].astype("datetime64[s]").astype("int64"),
            "mcc": events["mcc"].rank(method="dense").astype("int64"),
            "amount": events["amount"],
        }
    )
    return [
        {"client_id": client}
        | {name: torch.tensor(part[name].to_numpy()) for name in ("event_time", "mcc", "amount")}
        for client, part in coded.groupby("client_id")
    ]


def main() -> None:
    """Train on feature dictionaries and embed the same clients from nested Parquet."""
    records = feature_dictionaries(120)
    # The settings of a usual CoLES script, smaller.
    config = Config.from_dict(
        {
            "views": {"count": 5, "min_length": 10, "max_length": 40},
            "encoder": {"name": "gru", "hidden_size": 32},
            "event_encoder": {"hidden_size": 32},
            "pooling": "last",
            "objective": "coles",
            "loss": {"name": "contrastive", "margin": 0.5, "reduction": "sum"},
            "miner": {"name": "hard_negatives", "k": 5},
            "training": {"epochs": 2},
        }
    )
    train(records, "model", config=config, overwrite=True)

    # Its Parquet files: one row a client, list columns.
    sequences = EventSequences.read(records)
    sequences.to_pandas().reset_index().to_parquet("ptls.parquet")
    embed_to_parquet(load_model("model"), "ptls.parquet", "embeddings.parquet", overwrite=True)
    vectors = read_embeddings("embeddings.parquet")
    print(
        f"{len(vectors)} clients x {vectors.shape[1]} numbers, ids "
        f"{np.sort(vectors.index)[:2].tolist()} ..."
    )


if __name__ == "__main__":
    main()
