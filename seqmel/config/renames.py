"""The old names of options: accepted for one release with a warning.

Models of earlier versions load without one. To end the support of a name, delete its line here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from seqmel.config.options.objectives import OTHER_OBJECTIVE_NAMES
from seqmel.core.renames import rename_keys, warn_renamed

__all__ = ["RENAMED_OPTIONS", "RENAMED_POOLINGS", "new_path", "with_new_names"]

RENAMED_OPTIONS = {
    "columns": "schema",
    "events": "event_encoder",
    "by_category": "category_mean",
    "profile": "recency_features",
    "event_encoder.pretrain": "category_init",
    "event_encoder.pretrain_window": "category_init_window",
    "objective.cpc.most_events": "max_events",
    "objective.next_event.most_events": "max_events",
    "objective.masked_events.share": "mask_ratio",
    "objective.replaced_token.share": "corrupt_ratio",
    "objective.replaced_token.feature_share": "feature_fraction",
    "miner.count": "k",
    "miner.skip": "skip_hardest",
    "miner.nearest": "cutoff",
    "miner.farthest": "nonzero_loss_cutoff",
    "miner.all_negatives.most": "max_pairs",
    "miner.batch_all.most": "max_triplets",
    "sampler.among": "pool_size",
    "sampler.refresh": "refresh_every",
    "training.data": "storage",
    "training.validation_share": "validation_fraction",
    "finetuning.validation_share": "validation_fraction",
    "finetuning.encoder_rate": "encoder_lr_scale",
}
"""Place of an option, `section.option` or `section.method.option` -> its new name there."""

RENAMED_POOLINGS = {"total": "log_sum", "by_category": "category_mean"}


def _renames_at(*place: str) -> dict[str, str]:
    """Old name -> new name of the options of a section, or of a method."""
    prefix = "".join(f"{name}." for name in place)
    options = (
        (old.removeprefix(prefix), new)
        for old, new in RENAMED_OPTIONS.items()
        if old.startswith(prefix)
    )
    return {old: new for old, new in options if "." not in old}


def with_new_names(options: Mapping[str, Any], *, quiet: bool = False) -> dict[str, Any]:
    """All options by their new names.

    Args:
        options: by the names of a config file; what is not a name of an option is left as it is.
        quiet: do not warn, for the options of a model.

    Raises:
        ConfigError: an option is given by both of its names.
    """
    found = rename_keys(options, _renames_at(), quiet=quiet)
    for section in {
        place.split(".")[0] for place in RENAMED_OPTIONS if "." in place
    } & found.keys():
        found[section] = _in_section(section, found[section], quiet)
    if "pooling" in found:
        found["pooling"] = _pooling(found["pooling"], quiet)
    encoder = found.get("encoder")
    if isinstance(encoder, Mapping) and "pooling" in encoder:
        found["encoder"] = {**encoder, "pooling": _pooling(encoder["pooling"], quiet)}
    return found


def _in_section(section: str, part: Any, quiet: bool) -> Any:
    if isinstance(part, (list, tuple)):  # one level: YAML aliases can nest lists without end
        return [
            _in_section(section, one, quiet) if isinstance(one, Mapping) else one for one in part
        ]
    if not isinstance(part, Mapping):
        return part
    name = part.get("name")
    method = OTHER_OBJECTIVE_NAMES.get(name, name) if isinstance(name, str) else ""
    renames = _renames_at(section) | (_renames_at(section, method) if method else {})
    return rename_keys(part, renames, quiet=quiet, where=f"{section}.")


def _pooling(value: Any, quiet: bool) -> Any:
    if isinstance(value, (list, tuple)):
        return [_pooling(one, quiet) if isinstance(one, str) else one for one in value]
    if not isinstance(value, str) or value not in RENAMED_POOLINGS:
        return value
    if not quiet:
        warn_renamed(f"the pooling {value}", RENAMED_POOLINGS[value])
    return RENAMED_POOLINGS[value]


def new_path(path: Sequence[str]) -> list[str]:
    """Return the path of an option, such as `["events", "pretrain"]`, in new names; warn if old."""
    found = [_renames_at().get(path[0], path[0]), *path[1:]]
    if len(found) == 2:
        found[1] = _renames_at(found[0]).get(found[1], found[1])
    if found != list(path):
        warn_renamed(".".join(path), ".".join(found))
    return found
