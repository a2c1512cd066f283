"""Messages help: they offer what is near, and do not list hundreds of names."""

from __future__ import annotations

import numpy as np
import pytest

from seqmel.cli.arguments import event_words
from seqmel.core import errors
from seqmel.core.errors import did_you_mean, plain, shell_words, shown


def test_every_error_is_a_seqmel_error_and_stands_in_the_tree_of_the_docstring() -> None:
    kinds = [
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, Exception)
    ]
    assert all(issubclass(kind, errors.SeqmelError) for kind in kinds)
    assert all(kind.__name__ in (errors.__doc__ or "") for kind in kinds)
    assert {kind.__name__ for kind in kinds} <= set(errors.__all__)


@pytest.mark.parametrize(
    ("name", "known", "expected"),
    [
        ("amuont", ["mcc", "amount"], " Did you mean 'amount'?"),
        ("MCC", ["mcc", "amount"], " Did you mean 'mcc'?"),
        ("event", ["events", "event_time"], " Did you mean 'events' or 'event_time'?"),
        ("zzz", ["mcc", "amount"], ""),
        ("x", [], ""),
    ],
)
def test_only_what_is_near_is_offered(name: str, known: list[str], expected: str) -> None:
    assert did_you_mean(name, known) == expected


def test_a_dozen_names_are_shown_and_the_rest_counted() -> None:
    assert shown(["a", "b"]) == "a, b"
    assert shown(str(i) for i in range(20)).endswith("10, 11 and 8 more")
    assert shown([]) == ""


def test_a_name_with_line_ends_and_escapes_stays_in_one_line_that_a_terminal_prints() -> None:
    assert str(errors.InputError("No column 'a\nb\x1b[31m\u202e' in Größe 💥.")) == (
        "No column 'a\\nb\\x1b[31m\\u202e' in Größe 💥."
    )


@pytest.mark.parametrize(
    ("value", "shown_as"),
    [
        (np.int64(12347), "12347"),
        (np.float32(0.5), "0.5"),
        (np.str_("c1"), "'c1'"),
        (np.bool_(True), "True"),
        (np.datetime64("2024-01-31T00:00:00.000000000"), "'2024-01-31T00:00:00.000000000'"),
        ("c1", "'c1'"),
        ([1, 2], "[1, 2]"),
        (None, "None"),
    ],
)
def test_numpy_scalars_are_shown_as_plain_values(value: object, shown_as: str) -> None:
    assert repr(plain(value)) == shown_as


def test_a_command_to_copy_has_paths_that_a_shell_keeps_whole() -> None:
    assert shell_words("model", "my events.csv") == "model 'my events.csv'"
    assert event_words("it's.csv") == "'it'\"'\"'s.csv'"
    assert event_words({"cards": "a b.csv", "clicks": "c.csv"}) == "'cards=a b.csv' clicks=c.csv"
