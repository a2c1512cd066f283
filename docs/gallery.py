"""The gallery: a page per method, from its options and the docstring of its class."""

from __future__ import annotations

import importlib
from typing import Any

import yaml
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from seqmel.config.reference import Method, described, options
from seqmel.data.samplers import SAMPLERS
from seqmel.data.views import VIEWS
from seqmel.nn.encoders import ENCODERS
from seqmel.objectives.losses import LOSSES
from seqmel.objectives.miners import MINERS

__all__ = ["on_config", "on_files", "on_page_markdown"]

TITLES = {
    "objective": "Objectives",
    "views": "Views",
    "encoder": "Encoders",
    "pooling": "Poolings",
    "loss": "Losses",
    "miner": "Miners",
    "sampler": "Samplers",
}
CLASSES: dict[str, dict[str, Any]] = {
    "loss": LOSSES,
    "miner": MINERS,
    "views": VIEWS,
    "sampler": SAMPLERS,
    "encoder": ENCODERS,
}
CELLS = {"gru": "seqmel.nn.gru.GRU", "lstm": "seqmel.nn.lstm.LSTM"}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the pages into the navigation, under "Methods"."""
    (methods,) = [entry["Methods"] for entry in config.nav or [] if "Methods" in entry]
    for section, title in TITLES.items():
        names = [method.name for method in described() if method.section == section]
        methods.append({title: [{name: f"methods/{section}/{name}.md"} for name in names]})
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages."""
    for method in described():
        path = f"methods/{method.section}/{method.name}.md"
        files.append(File.generated(config, path, content=page_of(method)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Link the names in the tables of methods.md to their pages."""
    if page.file.src_uri != "methods.md":
        return markdown
    for section, title in TITLES.items():
        head, mark, rest = markdown.partition(f"\n## {title}\n")
        table, next_mark, after = rest.partition("\n## ")
        for method in described():
            if method.section == section:
                link = f"[`{method.name}`](methods/{section}/{method.name}.md)"
                table = table.replace(f"\n| `{method.name}` |", f"\n| {link} |")
        markdown = head + mark + table + next_mark + after
    return markdown


def page_of(method: Method) -> str:
    """Write the page of a method."""
    says = {"loss": "Takes", "miner": "Gives"}.get(method.section)
    facts = [
        ("How", f"{method.how}."),
        ("When", f"{method.when}."),
        (says, f"{method.takes}."),
        ("Source", f"{method.source}."),
    ]
    parts = [f"# {method.name}", method.line]
    parts += [f"**{name}:** {text}" for name, text in facts if name and text != "."]
    parts += ["## Use it", _snippet(method), *_table(method)]
    home = _class_of(method)
    if home:
        parts += ["## In Python" if method.section in ("loss", "miner") else "## The class"]
        parts += [f"::: {home}\n    options: {{members: false, heading_level: 3}}"]
    parts.append(f"[All methods](../../methods.md#{TITLES[method.section].lower()})")
    return "\n\n".join(parts) + "\n"


def _snippet(method: Method) -> str:
    keywords = ", ".join(f"{key}={value!r}" for key, value in method.config.items())
    keywords = keywords.replace("'", '"')
    sets = " ".join(
        f"--set '{key}={yaml.safe_dump(value, default_flow_style=True, width=1000).strip()}'"
        if isinstance(value, list)
        else f"--set {key}={value}"
        for key, value in method.config.items()
    )
    return (
        f'```python\nimport seqmel\n\nmodel = seqmel.train("events.parquet", {keywords})\n```\n\n'
        f"```sh\nseqmel train events.parquet -o model {sets}\n```"
    )


def _table(method: Method) -> list[str]:
    """List the options of the method, if it has any."""
    names = {"objective", "views", "encoder", "loss", "miner", "sampler"}
    section = method.section if method.section in names else method.name
    rows = [
        f"| `{option.path}` | `{option.default}` | {option.line.replace('|', chr(92) + '|')} |"
        for option in options()
        if option.path.startswith(f"{section}.")
        and (section == method.name or _belongs(option.method, method.name))
    ]
    if not rows:
        return []
    return ["## Options", "\n".join(["| option | default | meaning |", "|---|---|---|", *rows])]


def _belongs(owner: str | None, name: str) -> bool:
    return owner == name or (owner == "gru" and name == "lstm")  # one model of options for both


def _class_of(method: Method) -> str | None:
    if method.section == "objective":
        module = importlib.import_module(f"seqmel.objectives.{method.name}")
        (kind,) = (name for name in module.__all__ if name.lower() == method.name.replace("_", ""))
        return f"seqmel.objectives.{method.name}.{kind}"
    if method.name in CELLS:
        return CELLS[method.name]
    kind = CLASSES.get(method.section, {}).get(method.name)
    return f"{kind.__module__}.{kind.__name__}" if kind else None
