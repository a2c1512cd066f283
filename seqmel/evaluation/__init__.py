"""Score embeddings against labels: LightGBM on embeddings, on hand-crafted aggregates, and on both, on the same folds.

`aggregates` makes the baseline, `labels` reads and matches by client id, `scoring` compares. LightGBM and scikit-learn
are imported when a score is computed, not before.
"""
