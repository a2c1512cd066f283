"""Evaluation of embeddings: downstream scores against labels, drift and retrieval.

`aggregates` computes the hand-crafted baseline, `scoring` compares feature sets on the same folds.
LightGBM and scikit-learn are imported only when a score is computed.
"""
