"""Model folders to and from the Hugging Face Hub."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from seqmel.api.model import Model, load
from seqmel.core.atomic_files import MODEL_FILES, atomic_write, check_output
from seqmel.core.errors import ConfigError, InputError, SeqmelError, one_line, plain
from seqmel.model import AnyModel

__all__ = ["from_pretrained", "pull_from_hub", "push_to_hub"]

_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")


def push_to_hub(
    model: AnyModel,
    repository: str,
    *,
    private: bool = True,
    message: str = "Upload a model of seqmel",
    token: str | None = None,
) -> str:
    """Upload a model folder to the Hugging Face Hub.

    Only the files of the model are uploaded. They name the columns of the events and their
    categories, such as cities or merchants; no client is in them.

    Args:
        model: A model folder, or a `Model`.
        repository: Its name on the Hub, such as "my-bank/cards". It is created if it is not there.
        private: Whether a new repository is private.
        message: The message of the commit.
        token: The token of the Hub. None takes that of `hf auth login`, or HF_TOKEN.

    Returns:
        The address of the model on the Hub.

    Raises:
        ConfigError: The package huggingface_hub is missing, or the name is invalid.
        ModelError: There is no model, or it is damaged.
        InputError: The Hub refuses, or cannot be reached.

    Examples:
        >>> import seqmel
        >>> seqmel.push_to_hub("model", "my-bank/cards")  # doctest: +SKIP
        'https://huggingface.co/my-bank/cards'
    """
    loaded = load(model)
    _check_name(repository)
    hub = _import()
    with _folder_of(loaded) as folder, _hub_errors(repository, token):
        api = hub.HfApi(token=token, library_name="seqmel")
        address = api.create_repo(repository, private=private, exist_ok=True)
        api.upload_folder(
            repo_id=repository,
            folder_path=folder,
            allow_patterns=list(MODEL_FILES),
            commit_message=message,
        )
    return str(address)


def pull_from_hub(
    repository: str,
    output: str | Path,
    *,
    revision: str | None = None,
    overwrite: bool = False,
    token: str | None = None,
) -> Model:
    """Download a model folder from the Hugging Face Hub.

    The files are checked by their checksums; no code in them is run.

    Args:
        repository: Its name on the Hub, such as "my-bank/cards".
        output: The model folder to write.
        revision: A branch, a tag or a commit; None takes the newest.
        overwrite: Replace existing output.
        token: The token of the Hub. None takes that of `hf auth login`, or HF_TOKEN.

    Returns:
        The model.

    Raises:
        ConfigError: The package huggingface_hub is missing, or the name is invalid.
        ModelError: The repository is not a model of seqmel, or it is damaged.
        InputError: There is no such repository, the Hub refuses, or it cannot be reached.
        OutputError: The output exists.

    Examples:
        >>> import seqmel
        >>> model = seqmel.pull_from_hub("my-bank/cards", "model")  # doctest: +SKIP
    """
    _check_name(repository)
    hub = _import()
    output = Path(output)
    check_output(output, overwrite=overwrite, folder=True)
    with atomic_write(output) as partial:
        with _hub_errors(repository, token):
            hub.snapshot_download(
                repository,
                revision=revision,
                local_dir=partial,
                allow_patterns=list(MODEL_FILES),
                token=token,
                library_name="seqmel",
            )
        shutil.rmtree(partial / ".cache", ignore_errors=True)
        if not (partial / "config.json").is_file():
            raise InputError(f"{repository} is not a model of seqmel: it has no config.json.")
        load(partial)
    return load(output)


def from_pretrained(
    name: str | Path, *, revision: str | None = None, token: str | None = None
) -> Model:
    """Load a model by the path of its folder, or by its name on the Hugging Face Hub.

    A model of the Hub is kept in the cache of the Hub, so that it is downloaded once, and is in
    memory only. To keep it in a folder of your own, from which a training can start (`init_from`),
    see `pull_from_hub`.

    Args:
        name: A model folder, or OWNER/NAME on the Hub.
        revision: A branch, a tag or a commit of the Hub; None takes the newest.
        token: The token of the Hub. None takes that of `hf auth login`, or HF_TOKEN.

    Returns:
        The model.

    Raises:
        ModelError: There is neither a folder nor a name of the Hub, or the model is damaged.
        ConfigError: The package huggingface_hub is missing, or `name` is no text and no path.
        InputError: There is no such repository, the Hub refuses, or it cannot be reached.

    Examples:
        >>> import seqmel
        >>> data = seqmel.generate_card_data(20)
        >>> model = seqmel.train(data.events, epochs=1, batch_size=8, device="cpu")
        >>> saved = model.save("model")
        >>> seqmel.from_pretrained("model").folder.name
        'model'
        >>> model = seqmel.from_pretrained("my-bank/cards")  # doctest: +SKIP
    """
    if not isinstance(name, (str, os.PathLike)):
        raise ConfigError(
            f"A model cannot be {plain(name)!r}. Expected a folder, or a name of the Hub."
        )
    if Path(name).exists() or not _REPOSITORY.fullmatch(str(name)):
        return load(name)
    hub = _import()
    with _hub_errors(str(name), token):
        folder = hub.snapshot_download(
            str(name),
            revision=revision,
            allow_patterns=list(MODEL_FILES),
            token=token,
            library_name="seqmel",
        )
    if not (Path(folder) / "config.json").is_file():
        raise InputError(f"{name} is not a model of seqmel: it has no config.json.")
    with TemporaryDirectory(prefix="seqmel-") as copied:  # the cache has links
        shutil.copytree(folder, copied, dirs_exist_ok=True)
        return replace(load(copied), folder=None)


def _import() -> Any:
    try:
        import huggingface_hub
    except ImportError:
        raise ConfigError(
            "The Hugging Face Hub needs its package. Install it: pip install 'seqmel[hub]'"
        ) from None
    return huggingface_hub


def _check_name(repository: str) -> None:
    if not _REPOSITORY.fullmatch(repository):
        raise ConfigError(
            f"{repository!r} is not the name of a repository. Expected OWNER/NAME, such as "
            "my-bank/cards."
        )


@contextmanager
def _folder_of(model: Model) -> Iterator[Path]:
    """The folder of a model; a temporary one for a model in memory."""
    if model.folder is not None:
        yield Path(model.folder)
        return
    with TemporaryDirectory(prefix="seqmel-") as folder:
        yield Path(model.save(Path(folder) / "model").folder or folder)


@contextmanager
def _hub_errors(repository: str, token: str | None) -> Iterator[None]:
    """Turn errors of the Hub into one line, without the token."""
    try:
        yield
    except (SeqmelError, KeyboardInterrupt):
        raise
    except Exception as error:  # of several libraries: HTTP, validation, file locks
        response = getattr(error, "response", None) or getattr(error.__cause__, "response", None)
        status = getattr(response, "status_code", None)
        reason = _REASONS.get(int(status), f"status {status}") if status else ""
        words = one_line(str(error).strip().partition("\n")[0]).rstrip(".")
        detail = reason or f"{type(error).__name__}: {words}"
        if token:
            detail = detail.replace(token, "...")
        detail = re.sub(r"hf_\w+", "...", detail)
        raise InputError(f"The Hub and {repository}: {detail}.") from None


_REASONS = {
    401: "not found, or private and you are not logged in (hf auth login, or HF_TOKEN)",
    403: "your token may not do this; it needs the right to write",
    404: "not found, or private and your token may not read it",
}
