"""What a build adds to pyproject.toml: a README whose links also work on PyPI.

PyPI shows the README alone, so its relative links and pictures have to become absolute. Which
repository and tag they lead to is known where a release is built: GitHub's workflow says so.
Elsewhere the README stays as it is.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface


class ReadmeHook(MetadataHookInterface):
    """Fills in `readme` and `urls`."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Put both into the metadata."""
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        text, repository = with_absolute_links(text, os.environ)
        metadata["readme"] = {"content-type": "text/markdown", "text": text}
        metadata["urls"] = {"Source": repository} if repository else {}


def with_absolute_links(text: str, environment: Mapping[str, str]) -> tuple[str, str | None]:
    """Return the README with absolute links, and the repository; unchanged and None outside CI."""
    name = environment.get("GITHUB_REPOSITORY")
    if not name:
        return text, None
    repository = f"{environment.get('GITHUB_SERVER_URL', 'https://github.com')}/{name}"
    at = environment.get("GITHUB_REF_NAME", "main")

    def absolute(link: re.Match[str]) -> str:
        mark, words, target = link.groups()
        return f"{mark}[{words}]({repository}/{'raw' if mark else 'blob'}/{at}/{target})"

    return re.sub(r"(!?)\[([^\]]*)\]\((?!https?:|#)([^)]+)\)", absolute, text), repository
