"""The README as an index shows it: links to files of this project lead to where it is published, at the release's own tag."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

HOME = "https://github.com/OWNER/pytest-greencompute"  # OWNER: the place where this project is published


class CustomMetadataHook(MetadataHookInterface):
    """What pyproject.toml lists as dynamic, beside the version."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Set the long description."""
        text = Path(self.root, "README.md").read_text(encoding="utf-8")
        at = f"v{metadata['version']}"
        text = re.sub(r"(!\[[^\]]*\]\()(?!https?:|#)", rf"\1{HOME}/raw/{at}/", text)
        text = re.sub(r"((?<!!)\[[^\]!]*\]\()(?!https?:|#)", rf"\1{HOME}/blob/{at}/", text)
        metadata["readme"] = {"content-type": "text/markdown", "text": text}
