"""Devices and precisions: what is asked for, or a word on why not."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch

from seqmel.core.device import (
    disable_tf32,
    limit_onednn_cache,
    resolve_device,
    resolve_precision,
    tune_malloc,
    with_own_defaults,
)
from seqmel.core.errors import ConfigError


def test_auto_takes_a_gpu_only_where_there_is_one() -> None:
    assert resolve_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert resolve_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["cuda", "gpu", "cuda:0", "cuda:7"])
def test_a_gpu_that_is_not_there_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(
        ConfigError,
        match=rf"Device {name} was asked for, but no such CUDA GPU is here \(none is\).*--device",
    ):
        resolve_device(name)


def test_a_gpu_beyond_those_that_are_there_is_refused_with_their_number(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert resolve_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(ConfigError, match=r"cuda:2 was asked for.*\(2 are\)"):
        resolve_device("cuda:2")


def test_metal_where_there_is_none_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="no Metal GPU"):
        resolve_device("mps")


@pytest.mark.parametrize("name", ["32-true", "bf16-mixed", "16-mixed"])
def test_a_precision_that_is_named_is_taken(name: str) -> None:
    assert resolve_precision(name, torch.device("cpu")) == name


@pytest.mark.parametrize(("able", "expected"), [(True, "bf16-mixed"), (False, "32-true")])
def test_auto_takes_bfloat16_only_where_it_is_computed_in(
    able: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: able)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: able)
    assert resolve_precision("auto", torch.device("cpu")) == expected
    assert resolve_precision("auto", torch.device("cuda")) == expected
    assert resolve_precision("auto", torch.device("mps")) == "32-true"


def test_keeping_large_blocks_can_be_asked_for_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    tune_malloc()
    monkeypatch.setattr("sys.platform", "darwin")
    tune_malloc()


def test_what_the_environment_says_of_kept_kernels_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LRU_CACHE_CAPACITY", raising=False)
    monkeypatch.setenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "7")
    limit_onednn_cache(recurrent=False)
    found = (os.environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"], os.environ["LRU_CACHE_CAPACITY"])
    monkeypatch.delenv("LRU_CACHE_CAPACITY")
    assert found == ("7", "16")


@pytest.mark.parametrize(("device", "rounds"), [("cuda", False), ("cuda:1", False), ("cpu", True)])
def test_cudnn_does_not_round_factors_where_vectors_are_made_and_may_again_afterwards(
    device: str, rounds: bool
) -> None:
    assert torch.backends.cudnn.allow_tf32
    with disable_tf32(device):
        assert torch.backends.cudnn.allow_tf32 == rounds
    assert torch.backends.cudnn.allow_tf32


@pytest.fixture
def float64_by_default() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.usefixtures("float64_by_default")
def test_own_defaults_hold_within_a_function_and_end_with_it() -> None:
    assert with_own_defaults(torch.zeros)(1).dtype == torch.float32
    assert torch.get_default_dtype() == torch.float64


@pytest.mark.usefixtures("float64_by_default")
def test_a_generator_has_own_defaults_and_its_reader_those_of_the_program() -> None:
    @with_own_defaults
    def zeros() -> Iterator[torch.Tensor]:
        yield torch.zeros(1)
        yield torch.zeros(1)

    found = [(made.dtype, torch.get_default_dtype()) for made in zeros()]
    assert found == [(torch.float32, torch.float64)] * 2
