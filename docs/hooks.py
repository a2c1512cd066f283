"""What the site generates: commands, options, tables of methods, notebooks, pages of the root.

`gallery.py` adds a page per method.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from seqmel.cli.main import app
from seqmel.config.reference import method_table, options

__all__ = ["on_files", "on_page_markdown"]

ROOT = Path(__file__).parents[1]
NOTEBOOKS = ROOT / "examples" / "notebooks"
SECTIONS = ("objective", "views", "encoder", "pooling", "loss", "miner", "sampler")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages to those that are written by hand."""
    pages = {"reference/commands.md": _commands(), "reference/configuration.md": _configuration()}
    pages |= {
        f"{name.lower()}.md": _of_root(f"{name}.md") for name in ("CHANGELOG", "CONTRIBUTING")
    }
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        pages[f"tutorials/{path.stem}.md"] = _notebook(json.loads(path.read_text(encoding="utf-8")))
    for name, text in pages.items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace marks such as `<!-- table of loss -->` by what they name."""
    for section in SECTIONS:
        markdown = markdown.replace(f"<!-- table of {section} -->", method_table(section))
    return markdown


def _of_root(name: str) -> str:
    """Return a page of the root of the repository; links that leave the site become text."""
    text = (ROOT / name).read_text(encoding="utf-8").replace("](docs/", "](")
    return re.sub(r"\[([^\]]+)\]\((?!https?:)(?![\w/-]+\.md)[^)]*\)", r"\1", text)


def _commands() -> str:
    group: Any = typer.main.get_command(app)
    parts = [
        "# Commands\n",
        "Every command ends with exit code 0 when it is done, and with 2 and one line",
    ]
    parts += ["on standard error where the input is wrong.\n"]
    for name, command in group.commands.items():
        if command.hidden:
            continue
        usage = " ".join(_name(p) for p in command.params if _is_argument(p)) + " [OPTIONS]"
        parts += [f"\n## {name}\n", command.help or "", f"\n```text\nseqmel {name} {usage}\n```\n"]
        parts += ["| argument or option | default | meaning |", "|---|---|---|"]
        parts += [
            _row(p) for p in command.params if not getattr(p, "hidden", False) and p.name != "help"
        ]
    return "\n".join(parts) + "\n"


def _configuration() -> str:
    parts = [
        "# Configuration\n",
        "As `--set SECTION.OPTION=VALUE` or in a YAML file; `seqmel config` prints the same.\n",
    ]
    section = None
    for option in options():
        if option.path.split(".")[0] != section:
            section = option.path.split(".")[0]
            parts += [
                f"\n## {section}\n",
                "| option | of | default | meaning |",
                "|---|---|---|---|",
            ]
        line = option.line.replace("|", "\\|")
        parts.append(f"| `{option.path}` | {option.method or ''} | `{option.default}` | {line} |")
    return "\n".join(parts) + "\n"


def _notebook(notebook: dict[str, Any]) -> str:
    """Return its text, its code and what it shows; links to other notebooks lead to their pages."""
    parts = []
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source.replace(".ipynb)", ".md)"))
            continue
        parts.append(f"```python\n{source}\n```")
        parts += [_shown_by(output) for output in cell["outputs"]]
    return "\n\n".join(parts) + "\n"


def _shown_by(output: dict[str, Any]) -> str:
    data = output.get("data", {})
    if "image/png" in data:
        return f'<img alt="what the cell draws" src="data:image/png;base64,{data["image/png"]}">'
    if "text/html" in data:
        return f'<div class="output">{"".join(data["text/html"])}</div>'
    return "```text\n" + "".join(data.get("text/plain") or output["text"]).rstrip() + "\n```"


def _is_argument(parameter: Any) -> bool:
    return bool(parameter.param_type_name == "argument")


def _name(parameter: Any) -> str:
    return (parameter.name or "").upper() if _is_argument(parameter) else ", ".join(parameter.opts)


def _row(parameter: Any) -> str:
    text = " ".join((getattr(parameter, "help", None) or "").split()).replace("|", "\\|")
    return f"| `{_name(parameter)}` | {_shown(parameter.default)} | {text} |"


def _shown(default: Any) -> str:
    return "" if default in (None, False, (), []) or callable(default) else f"`{default}`"
