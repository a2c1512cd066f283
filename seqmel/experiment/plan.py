"""What an experiment compares: a YAML file that names data sets, rows, seeds and folds.

    data:
      retail: {events: retail/events.parquet, labels: retail/clients.parquet, targets: [buys]}
    base: {training: {epochs: 5}}
    rows:
      CoLES: {}
      CoLES + events: {objective: [coles, event_prediction]}
      untrained: {training: {epochs: 0}}
    seeds: [0, 1, 2]

A row is the base with its own options on top, so rows differ only in the options that they name.
`scored` is a key of a row that is not an option of a config: `trees` (the default) trains
LightGBM on the embeddings, `finetuned` fine-tunes the encoder and a head on the labels of each
fold's training split, `scratch` does so with a new encoder. All rows share the prepared data, so
`preparation` and `schema` belong in the base.

A data set may have several event tables, and facts about its clients:

    bank:
      events:
        cards: {path: cards.parquet, time: booked_at}
        clicks: clicks.csv
      facts: clients.parquet
      labels: labels.parquet
      targets: [churn]

With facts, `facts: false` in a row leaves them out.

`task: survival` takes the targets as times to an event. Whether it was observed is in the column
TARGET_observed, or in another that `observed` names; `time_edges: [30, 60, 90]` are the bounds at
which probabilities of a later event are compared.

A data set may have a `role` in the table, choose or confirm. It may have `options` on top of the
base, such as its number of epochs, and `seeds` of its own. It may be generated rather than read:
`cards: {generated: 3000, targets: [gender]}` is the card data of `seqmel demo` with 3,000
clients.

A row whose objective learns labels (`supervised_contrastive`, `classification`; without `labels`
and `target`) is trained once per fold and target, on all events and the labels of the fold's
training split. With `label_fractions: [0.05, 0.2, 1]` every row is scored with these fractions of
the training labels. `published` adds a column with published results, by row:

    published:
      - {figures: "age accuracy, arXiv 2002.08232", rows: {CoLES: 0.639}}

`every: loss` adds a row for each loss that no row names, under its name; `encoder`, `objective`,
`sampler` and `views` likewise, and `miner` with those that fit the loss of `base`. `every: loss and
miner` adds each loss with each miner that fits it. `every` may be a list.

If each row sets an option to a number of its own, `curve: embedding_dim` plots a curve over it. In
a section it is `curve: loss.temperature`. `curve: label_fractions` plots a curve over the fractions
of labels.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import math
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, TypeVar, get_args

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from seqmel.config import LABELLED, Config, last_said, parse_yaml
from seqmel.config.event_tables import EventTable, EventTables, event_paths, with_sources
from seqmel.config.registry import method_name, options_of
from seqmel.config.renames import new_path, with_new_names
from seqmel.config.validation_errors import SHAPES, expectation
from seqmel.core.errors import ConfigError, did_you_mean
from seqmel.core.renames import rename_keys
from seqmel.demo.generator import TARGETS
from seqmel.evaluation.feature_sets import (
    AGGREGATES,
    BASELINES,
    FACTS,
    WITH_ORDER,
    beside_aggregates,
    beside_facts,
    few_label_probes,
    reference,
    standard_rows,
)

__all__ = [
    "LABEL_FRACTIONS",
    "SCORED",
    "Cell",
    "DataSet",
    "Plan",
    "Published",
    "option_names",
    "read_plan",
    "smaller_plan",
]

SCORED = ("trees", "finetuned", "scratch")
"""Possible values of a row's `scored`."""

_OF_SCORING = ("scored", "facts")
"""The keys of a row that are no options of a config."""

LABEL_FRACTIONS = "label_fractions"
"""The name of the curve over label fractions rather than an option."""

_Thing = TypeVar("_Thing")


def _unique(values: tuple[_Thing, ...]) -> tuple[_Thing, ...]:
    """Refuse duplicates, which would count twice and narrow the intervals."""
    twice = next((value for place, value in enumerate(values) if value in values[:place]), None)
    if twice is not None:
        raise ValueError(f"{twice!r} is named twice. Leave one of them out")
    return values


_Name = Annotated[str, Field(min_length=1)]
_Seeds = Annotated[
    tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1), AfterValidator(_unique)
]
_Fractions = Annotated[
    tuple[Annotated[float, Field(gt=0, le=1)], ...], Field(min_length=1), AfterValidator(_unique)
]
_Targets = Annotated[tuple[_Name, ...], Field(min_length=1), AfterValidator(_unique)]


_FOLD_LABELS = {"labels": "those of the training part", "target": "the one that is scored"}
"""Placeholders for the labels of an objective. Training gets the actual labels."""


def _mapping(value: Any) -> dict[str, Any]:
    """Copy a mapping. Other values give an empty one, and are refused by the types."""
    return dict(value) if isinstance(value, Mapping) else {}


def _listed(value: Any) -> Any:
    if value is None:
        return []
    return [value] if isinstance(value, str) else value


def _new_names(options: Any) -> Any:
    return with_new_names(options) if isinstance(options, Mapping) else options


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DataSet(_Part):
    """Events and labels, read or generated. Paths are relative to the data folder of the run."""

    events: EventTables | None = None
    """A path; or NAME: PATH, or NAME: {path: PATH, time: COLUMN}, for each of several tables."""
    labels: _Name | None = None
    facts: _Name | None = None
    """A table of facts about the clients. LightGBM also learns from features and facts together,
    and fine-tuning from both, unless the row has `facts: false`."""
    fact_columns: (
        Annotated[tuple[_Name, ...], Field(min_length=1), AfterValidator(_unique)] | None
    ) = None
    """The columns of the facts. Null uses all but the client column."""
    generated: Annotated[int, Field(ge=200)] | None = None
    """Number of generated clients, see `seqmel.generate_card_data`. Replaces events and labels."""
    targets: _Targets
    task: Literal["classification", "regression", "survival"] | None = None
    """The task of all targets. Null takes a number with more than 20 distinct values as a quantity,
    and all else as classes. survival takes times to an event, which may be censored."""
    observed: _Name | None = None
    """With the task survival, the column of the labels that says whether the event was observed.
    Null is TARGET_observed."""
    time_edges: Annotated[tuple[float, ...], Field(min_length=1)] | None = None
    """With the task survival, the bounds at which probabilities of a later event are compared, in
    the unit of the times. Null takes quantiles of the observed times."""
    time_column: _Name | None = None
    """Column of the labels with a moment, for several rows per client. Each history is cut strictly
    before its moment, and no client is in two folds."""
    split: Literal["time"] | None = None
    """time: each fold trains on the earlier rows of other clients, and tests on the later rows of
    its own. Encoders are pretrained on the events before the first moment of the test rows."""
    test_fraction: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Fraction of the later rows in the split by time. Null is 0.3."""
    role: Literal["choose", "confirm"] | None = None
    """Whether defaults are chosen on this set, or choices made on others are confirmed on it."""
    columns: dict[str, Any] = Field({}, alias="schema")
    """Options of the schema, as in a config."""
    options: dict[str, Any] = {}
    """Options of a config for this data set, on top of the plan's base and below those of a row."""
    seeds: _Seeds | None = None
    """Seeds of training on this data set. Null uses the plan's."""

    @model_validator(mode="before")
    @classmethod
    def _by_new_names(cls, values: Any) -> Any:
        return (
            values | {"options": _new_names(values["options"])}
            if "options" in _mapping(values)
            else values
        )

    @model_validator(mode="after")
    def _comes_from_one_place(self) -> DataSet:
        given = (self.events is not None, self.labels is not None, self.generated is not None)
        if given not in ((True, True, False), (False, False, True)):
            raise ValueError(
                "needs events and labels, or generated: a number of clients, and not both"
            )
        return self

    @model_validator(mode="after")
    def _facts_are_of_files(self) -> DataSet:
        if self.facts is not None and self.generated is not None:
            raise ValueError("facts belong to events and labels, and not to generated clients")
        if self.fact_columns is not None and self.facts is None:
            raise ValueError("fact_columns belong to facts")
        return self

    @model_validator(mode="after")
    def _times_are_of_survival(self) -> DataSet:
        if self.task != "survival":
            for name, given in (("observed", self.observed), ("time_edges", self.time_edges)):
                if given is not None:
                    raise ValueError(f"{name} belongs to task: survival")
        elif self.generated is not None:
            raise ValueError("generated clients have no times to an event")
        return self

    @model_validator(mode="after")
    def _splits_moments(self) -> DataSet:
        if self.split is not None and self.time_column is None:
            raise ValueError("split by time needs time_column, the moments of the labels")
        if self.test_fraction is not None and self.split is None:
            raise ValueError("test_fraction belongs to split: time")
        return self

    @model_validator(mode="after")
    def _has_its_targets(self) -> DataSet:
        """Check the targets of generated data. Those of files are checked when they are read."""
        unknown = [
            name for name in self.targets if self.generated is not None and name not in TARGETS
        ]
        if unknown:
            raise ValueError(
                "generated clients have no target "
                f"{unknown[0]!r}.{did_you_mean(unknown[0], TARGETS)} They have: "
                f"{', '.join(TARGETS)}"
            )
        return self

    def files(self, data: Path, made: Path) -> tuple[Any, Path]:
        """Return the events, a path or name -> path, and the path of the labels."""
        if self.events is None or self.labels is None:
            return made / "events.parquet", made / "clients.parquet"
        paths = event_paths(self.events)
        if isinstance(paths, str):
            return data / paths, data / self.labels
        return {name: data / path for name, path in paths.items()}, data / self.labels

    def schema_options(self) -> dict[str, Any]:
        """Return the options of the schema, with those of each of several tables."""
        return with_sources(self.columns, self.events or {}, "the plan")

    def settings(self) -> dict[str, Any]:
        """Return what identifies the data, without how they are used."""
        return self.model_dump(
            by_alias=True, mode="json", exclude_none=True, exclude={"options", "seeds", "role"}
        )


class Published(_Part):
    """Published results, shown beside ours."""

    figures: _Name
    """Their name and source."""
    rows: Annotated[dict[_Name, str | float], Field(min_length=1)]
    """Row of the table -> result, as it is shown."""
    data: str | None = None
    target: str | None = None
    """Only for this data set and target; null for all."""

    def applies_to(self, data: str, target: str) -> bool:
        """Return whether the results belong to the table of this data set and target."""
        return self.data in (None, data) and self.target in (None, target)


_Section: TypeAlias = Literal[
    "encoder", "loss", "loss and miner", "miner", "objective", "sampler", "views"
]


def _rows_of_every(
    section: str, rows: Mapping[str, Any], base: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """Return the rows of a plan and one for each method of a section that none of them names."""
    first, _, second = section.partition(" and ")
    shared = Config.from_dict(base, source="base", lenient=True)
    named = {
        name
        for row in rows.values()
        for name in _names_of(_mapping(row).get(first, getattr(shared, first)))
    }
    found: dict[str, dict[str, Any]] = {}
    for options in options_of(Config, first):
        if first == "miner" and options.gives != shared.loss.takes:
            continue
        fits = [
            method_name(miner)
            for miner in options_of(Config, "miner")
            if second and miner.gives == options.takes
        ]
        for name in get_args(options.model_fields["name"].annotation):
            if name in named or name == "pml":  # a whole library rather than a loss
                continue
            if name in LABELLED:
                found[name] = {first: ["coles", name]}
                continue
            added = {f"{name} / {miner}": {first: name, "miner": miner} for miner in fits}
            found |= added or {name: {first: name}}
            if first == "objective":
                found[f"{name}, fine-tuned"] = {first: name, "scored": "finetuned"}
    return dict(rows) | {name: row for name, row in found.items() if name not in rows}


def _names_of(value: Any) -> set[Any]:
    """Return the methods that an option names: a method, options with its name, or several."""
    if isinstance(value, list | tuple):
        return {name for part in value for name in _names_of(part)}
    return {value.get("name") if isinstance(value, Mapping) else getattr(value, "name", value)}


class Plan(_Part):
    """The plan of an experiment, see `seqmel.experiment.plan` for its keys."""

    data: Annotated[dict[_Name, DataSet], Field(min_length=1)]
    base: dict[str, Any] = {}
    rows: Annotated[dict[_Name, dict[str, Any]], Field(min_length=1)]
    every: Annotated[tuple[_Section, ...], BeforeValidator(_listed)] = ()
    """Sections whose methods get a row each, unless a row names them."""
    aggregates: bool = True
    """Whether to add the hand-crafted aggregates as rows, alone and combined with each row."""
    label_fractions: _Fractions = (1.0,)
    """Fractions of the training labels that each row is scored with, on the same test splits."""
    seeds: _Seeds = (0,)
    folds: Annotated[int, Field(ge=2)] = 5
    trees: Annotated[int, Field(ge=1)] = 500
    clients: Annotated[int, Field(ge=2)] | None = None
    """Number of clients of each data set, the first ones. Null uses all."""
    published: tuple[Published, ...] = ()
    curve: _Name | None = None
    """The x-axis of the plot: an option set by all rows, or `label_fractions`; null for points."""

    @model_validator(mode="before")
    @classmethod
    def _by_new_names(cls, values: Any) -> Any:
        """Rename old options, so that layers override each other."""
        found = rename_keys(_mapping(values), {"label_shares": LABEL_FRACTIONS})
        if "base" in found:
            found["base"] = _new_names(found["base"])
        if "rows" in found:
            found["rows"] = {
                name: _new_names(row) for name, row in _mapping(found["rows"]).items()
            } or found["rows"]
        for section in _listed(found.get("every")):
            if section in get_args(_Section):
                found["rows"] = _rows_of_every(
                    section, _mapping(found.get("rows")), _mapping(found.get("base"))
                )
        if isinstance(found.get("curve"), str):
            curve = {"label_shares": LABEL_FRACTIONS}.get(found["curve"])
            found["curve"] = curve or ".".join(new_path(found["curve"].split(".")))
        return found or values

    def config(self, row: str, data: str, seed: int) -> Config:
        """Return all options of a row on a data set."""
        own = {name: value for name, value in self.rows[row].items() if name not in _OF_SCORING}
        layers = (self.base, self.data[data].options, own)
        options = functools.reduce(
            _overlay, (*layers, {"schema": self.data[data].schema_options(), "seed": seed})
        )
        if "objective" in options:
            options["objective"] = _with_labels(options["objective"], row)
        return Config.from_dict(options, source=f"row {row!r}", said=last_said(*layers))

    def prepared_with(self, row: str, data: str) -> dict[str, dict[str, Any]]:
        """Return the non-default options that determine the prepared sequences."""
        config = self.config(row, data, 0)
        resources = {"memory_limit", "threads"}
        return {
            "preparation": config.preparation.model_dump(
                mode="json", exclude_defaults=True, exclude=resources
            ),
            "schema": config.schema.model_dump(mode="json", exclude_defaults=True),
        }

    def seeds_of(self, data: str) -> tuple[int, ...]:
        """Return the seeds of training on a data set."""
        return self.data[data].seeds or self.seeds

    def place(self, row: str) -> float:
        """Return the number that a row sets the option of the curve to.

        Raises:
            ConfigError: The row does not set it, or not to a number.
        """
        assert self.curve is not None, "there is a curve"
        said = _lookup(self.rows[row], self.curve)
        if said is None:
            known = [
                LABEL_FRACTIONS,
                *(name for options in self.rows.values() for name in option_names(options)),
            ]
            raise ConfigError(
                f"row {row!r} sets no {self.curve}, which the curve goes "
                f"across.{did_you_mean(self.curve, known)} Set it to a number in every row, or "
                "name another option, or label_fractions."
            )
        if isinstance(said, str):  # such as 1e-4, which YAML takes for text
            said = _lookup(self.config(row, next(iter(self.data)), 0).to_dict(), self.curve)
        if isinstance(said, bool) or not isinstance(said, (int, float)) or not math.isfinite(said):
            raise ConfigError(
                f"row {row!r}: {self.curve} is {said!r}, and a curve needs numbers. Name "
                "another option."
            )
        return said

    def scored(self, row: str) -> str:
        """Return one of `SCORED`, which is "trees" for aggregates."""
        return "trees" if row == AGGREGATES else str(self.rows[row].get("scored", "trees"))

    def with_facts(self, row: str, data: str) -> bool:
        """Return whether a row is scored with the facts about the clients of a data set."""
        has = self.data[data].facts is not None
        return has and (row == AGGREGATES or self.rows[row].get("facts", True) is not False)

    def baselines(self, data: str) -> tuple[str, ...]:
        """Return the sets of features that are scored once for all rows of a data set."""
        sets = BASELINES if self.aggregates else ()
        if self.data[data].facts is None:
            return sets
        best = reference(sets)
        return (*sets, FACTS, *([beside_facts(best)] if best else []))


@dataclass(frozen=True)
class Cell:
    """One training run and its scores. Aggregates have one cell per data set."""

    row: str
    data: str
    seed: int

    @property
    def key(self) -> str:
        """The name of its file, readable and unique."""
        digest = hashlib.sha256(f"{self.row}\0{self.data}".encode()).hexdigest()[:8]
        plain = "".join(c if c.isalnum() else "-" for c in f"{self.data}-{self.row}")
        return f"{plain[:80]}-{digest}-{self.seed}"


def smaller_plan(
    path: Path,
    *,
    only: Sequence[str] | None = None,
    clients: int | None = None,
    seeds: Sequence[int] | None = None,
    trees: int | None = None,
) -> str:
    """Return the text of a smaller plan, for a quick look or a test.

    Args:
        path: The file of the plan.
        only: The data sets to keep. None keeps all.
        clients: Replaces the plan's `clients`.
        seeds: Replaces the seeds of the plan and of its data sets.
        trees: Replaces the plan's `trees`.

    Raises:
        ConfigError: The plan is invalid, or has no such data set.
    """
    plan = read_plan(path)
    unknown = next((name for name in only or () if name not in plan.data), None)
    if unknown is not None:
        raise ConfigError(
            f"{path} has no data set {unknown!r}.{did_you_mean(unknown, plan.data)} It has: "
            f"{', '.join(plan.data)}."
        )
    options = _mapping(parse_yaml(path.read_text(encoding="utf-8")))
    data = {name: dict(of) for name, of in options["data"].items() if only is None or name in only}
    if seeds is not None:
        for of in data.values():
            of.pop("seeds", None)
    own = {"clients": clients, "seeds": None if seeds is None else list(seeds), "trees": trees}
    changed = (
        options | {"data": data} | {name: value for name, value in own.items() if value is not None}
    )
    return yaml.safe_dump(changed, sort_keys=False, allow_unicode=True)


def read_plan(path: str | Path) -> Plan:
    """Read a plan and check all its rows.

    Raises:
        ConfigError: There is no such file, it is not YAML, or an option of a row is unknown or out
            of range.
    """
    path = Path(path)
    try:
        plan = Plan.model_validate(parse_yaml(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise ConfigError(f"No such experiment: {path}.") from None
    except ValidationError as error:
        raise ConfigError(_explain(error, path)) from None
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ConfigError(
            f"{path} is not a readable YAML file: {' '.join(str(error).split())}"
        ) from None
    _check_names(plan, path)
    _check_published(plan, path)
    for row in plan.rows:
        if plan.scored(row) not in SCORED:
            raise ConfigError(
                f"row {row!r}: scored cannot be {plan.scored(row)!r}. Expected one of: "
                f"{', '.join(SCORED)}.{did_you_mean(plan.scored(row), SCORED)}"
            )
        if not isinstance(plan.rows[row].get("facts", True), bool):
            raise ConfigError(
                f"row {row!r}: facts is {plan.rows[row]['facts']!r}. Expected true or false: "
                "whether the row learns from the facts of its data set."
            )
        for data, of in plan.data.items():
            config = plan.config(row, data, plan.seeds[0])
            if of.task == "survival" and config.finetuning.time_edges is not None:
                raise ConfigError(
                    f"row {row!r}: finetuning.time_edges are those of the data set in an "
                    f"experiment, for all rows. Write time_edges below data.{data}."
                )
    for data in plan.data:
        _check_share(plan, data)
    _check_curve(plan)
    return plan


def _check_curve(plan: Plan) -> None:
    """Check that a curve has at least two positions, with one row of each kind at each."""
    if plan.curve == LABEL_FRACTIONS and len(plan.label_fractions) < 2:
        raise ConfigError(
            "A curve over label_fractions needs two fractions or more, such as label_fractions: "
            "[0.1, 0.3, 1]."
        )
    if plan.curve in (None, LABEL_FRACTIONS):
        return
    there: dict[tuple[str, float], str] = {}
    for row in plan.rows:
        place = plan.place(row)
        other = there.setdefault((plan.scored(row), place), row)
        if other != row:
            raise ConfigError(
                f"rows {other!r} and {row!r} have the same {plan.curve}, {place:g}: a curve has "
                "one row per number. Put one into another plan."
            )


def _check_share(plan: Plan, data: str) -> None:
    """Check that all rows share the options of preparation, because data is prepared once."""
    first, *others = plan.rows
    wanted = plan.prepared_with(first, data)
    for row in others:
        for section, options in plan.prepared_with(row, data).items():
            if options != wanted[section]:
                raise ConfigError(
                    f"row {row!r}: {section} is {options}, and {wanted[section]} in row {first!r}; "
                    "all rows share the prepared data. Put it into base, or into another plan."
                )


def _check_names(plan: Plan, path: Path) -> None:
    """Refuse rows with names of aggregates or of rows that the table adds."""
    for row in plan.rows:
        sets = (row, beside_aggregates(row), *BASELINES, *map(beside_facts, (row, WITH_ORDER)))
        beside = [*sets[1:], beside_facts(sets[1]), FACTS, *itertools.chain(*standard_rows(sets))]
        for name in (*few_label_probes(BASELINES), *beside):
            if name in plan.rows:
                raise ConfigError(
                    f"{path}: the row {name!r} has the name of a row that the table adds itself. "
                    "Give it another name."
                )


def _check_published(plan: Plan, path: Path) -> None:
    """Refuse published results for rows, data sets or targets that do not exist."""
    rows = [*plan.rows, *BASELINES, *map(beside_aggregates, plan.rows)]
    for part in plan.published:
        targets = [
            t for name, data in plan.data.items() if part.data in (None, name) for t in data.targets
        ]
        for kind, name, known in (
            *(("row", row, rows) for row in part.rows),
            *([("data set", part.data, list(plan.data))] if part.data is not None else []),
            *([("target", part.target, targets)] if part.target is not None else []),
        ):
            if name not in known:
                raise ConfigError(
                    f"{path}: published {part.figures!r} names the {kind} {name!r}, which is not "
                    f"in the plan.{did_you_mean(name, known)}"
                )


def _explain(error: ValidationError, path: Path) -> str:
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        parts: dict[str, type[BaseModel]] = {"data": DataSet, "published": Published}
        in_table = first["loc"][::2][:2] == ("data", "events") and len(first["loc"]) > 3
        model = EventTable if in_table else parts.get(str(first["loc"][0]), Plan)
        known = [field.alias or name for name, field in model.model_fields.items()]
        return (
            f"{path}: unknown option {place!r}.{did_you_mean(str(first['loc'][-1]), known)} "
            f"Known here: {', '.join(known)}."
        )
    if first["type"] in SHAPES:
        return (
            f"{path}: {place or 'the file'} is {reprlib.repr(first['input'])}. Expected "
            f"{SHAPES[first['type']]}."
        )
    wanted = expectation(first)
    if wanted is not None:
        found = reprlib.repr(first["input"])
        return f"{path}: {place or 'the file'} is {found}. Expected {wanted}."
    said = first["msg"].removeprefix("Value error, ")
    return f"{path}: {place or 'the file'}: {said[0].lower()}{said[1:]}."


def _overlay(base: Mapping[str, Any], row: Mapping[str, Any]) -> dict[str, Any]:
    """Merge sections, and replace all else. A part with another name replaces that of the base."""
    merged = dict(base)
    for key, value in row.items():
        below = merged.get(key)
        same = (
            isinstance(below, Mapping)
            and isinstance(value, Mapping)
            and value.get("name") in (None, below.get("name"))
        )
        merged[key] = _overlay(below, value) if same and isinstance(below, Mapping) else value
    return merged


def _with_labels(objective: Any, row: str) -> list[Any]:
    """Return the parts of an objective, with placeholders for labels, which come from the fold."""
    parts = []
    for part in objective if isinstance(objective, list) else [objective]:
        name = part.get("name") if isinstance(part, Mapping) else part
        if name not in LABELLED:
            parts.append(part)
            continue
        options = dict(part) if isinstance(part, Mapping) else {"name": part}
        if options.keys() & _FOLD_LABELS.keys():
            raise ConfigError(
                f"row {row!r}: the objective {name} learns the labels of each fold's training "
                "part, so that those it is scored by are not seen. Leave out its labels and target."
            )
        parts.append(options | _FOLD_LABELS)
    return parts


def _lookup(options: Any, name: str) -> Any:
    """Return the value of a dotted name in nested options, or None."""
    for part in name.split("."):
        options = options.get(part) if isinstance(options, Mapping) else None
    return options


def option_names(options: Mapping[str, Any]) -> list[str]:
    """Return the dotted names of all nested options, including sections."""
    below = {
        key: option_names(value) if isinstance(value, Mapping) else []
        for key, value in options.items()
    }
    return [name for key, names in below.items() for name in (key, *(f"{key}.{n}" for n in names))]
