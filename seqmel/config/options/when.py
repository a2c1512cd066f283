"""For which data, or for what, to choose a loss or a miner: for the pages of the methods."""

from __future__ import annotations

__all__ = ["WHEN"]

WHEN: dict[str, dict[str, str]] = {
    "loss": {
        "contrastive": (
            "to reproduce CoLES as published, or with few clients per batch: its cost is "
            "counted in pairs, and a miner picks those that teach something"
        ),
        "binomial_deviance": (
            "a smooth form of contrastive: every pair keeps a small cost, so training does not "
            "stall when the margin is reached"
        ),
        "margin": (
            "clients differ in how much they vary, so that one fixed distance between near and "
            "far does not fit"
        ),
        "triplet": (
            "only the order of distances matters, as in retrieval; it needs a good miner, since "
            "most triplets soon cost nothing"
        ),
        "infonce": (
            "the default. Large batches serve it well, since every view of another client is a "
            "negative; lower the temperature to look at the nearest ones"
        ),
        "supcon": (
            "as infonce, with many views per client: positives share one softmax, so near ones "
            "are not pushed closer at the cost of far ones"
        ),
        "histogram": (
            "no margin or temperature should be tuned; it needs large batches, as it estimates "
            "two distributions from them"
        ),
        "n_pair": (
            "two views per client and unscaled vectors, where lengths should carry meaning; a "
            "baseline from the literature"
        ),
        "quadruplet": (
            "triplets leave clients of different groups too close: the second term also "
            "separates two negatives"
        ),
        "triplet_center": (
            "many views per client, where their mean is a steadier target than single views"
        ),
        "lifted_structure": (
            "triplets are too few: each positive pair is compared with all negatives of both "
            "its views at once"
        ),
        "multi_similarity": (
            "pairs of very different difficulty: it chooses and weights the informative ones "
            "itself, without a miner"
        ),
        "cosface": (
            "recognition of clients with a clear margin between them; many views per client "
            "make their mean directions reliable"
        ),
        "circle": (
            "positives and negatives converge at different speeds: each similarity is weighted "
            "by what it still lacks"
        ),
        "vicreg": (
            "many clients are near-duplicates, so that calling them negatives would be wrong; "
            "it keeps all dimensions in use"
        ),
        "barlow_twins": (
            "as vicreg, without negatives; also for decorrelated dimensions. Large batches "
            "estimate the correlations better"
        ),
    },
    "miner": {
        "hard_negatives": (
            "the default of the pair losses: only near negatives teach something once training "
            "has begun"
        ),
        "random_negatives": (
            "a baseline, and for noisy data in which the hardest negatives are really the same "
            "client"
        ),
        "distance_weighted": (
            "the hardest negatives make training unstable: easy, medium and hard ones are drawn "
            "about equally often"
        ),
        "all_negatives": (
            "small batches, or losses that weight pairs themselves, such as binomial_deviance"
        ),
        "batch_all": (
            "small batches and a triplet loss; with reduction: active the easy triplets do not "
            "count"
        ),
        "batch_hard": (
            "clean data and a triplet loss; outliers among the positives are what it looks at first"
        ),
        "batch_weighted": "as batch_hard, less easily misled by outliers",
        "semi_hard": (
            "the default of triplet: hard enough to learn from, without the collapse that the "
            "hardest can cause"
        ),
        "easy_positive": (
            "views of one client may differ a lot, by season, say: each needs to be near only "
            "one other"
        ),
    },
}
"""Section -> method -> when to choose it."""
