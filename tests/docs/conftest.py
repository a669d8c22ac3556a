"""The documents, as the tests look at them."""

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

_FENCE = re.compile(r"^```([^\n`]*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block: `info` is what stands behind the fence."""

    info: str
    text: str


@dataclass(frozen=True, slots=True)
class Document:
    """One Markdown file."""

    path: Path
    text: str

    @property
    def blocks(self) -> list[Block]:
        return [Block(info.strip(), text) for info, text in _FENCE.findall(self.text)]

    @property
    def prose(self) -> str:
        return _COMMENT.sub("", _FENCE.sub("", self.text))

    @property
    def code(self) -> list[str]:
        """Inline code and the lines of shell blocks."""
        shell = [line.strip() for block in self.blocks if block.info == "sh" for line in block.text.splitlines()]
        return re.findall(r"`([^`\n]+)`", self.prose) + shell

    @property
    def anchors(self) -> set[str]:
        """The places that a link can lead to, as the usual viewers name them."""
        found: dict[str, int] = {}
        anchors = set()
        for title in re.findall(r"^#+ (.+)$", _FENCE.sub("", self.text), re.MULTILINE):
            slug = re.sub(r"[^\w\- ]", "", re.sub(r"[`*]|\[([^\]]*)\]\([^)]*\)", r"\1", title).lower()).strip().replace(" ", "-")
            count = found[slug] = found.get(slug, -1) + 1
            anchors.add(f"{slug}-{count}" if count else slug)
        return anchors

    @property
    def links(self) -> list[str]:
        """Where links and pictures lead, other sites left out."""
        targets = re.findall(r"\]\(([^)\s]+)\)", self.prose)
        return [target for target in targets if not re.match(r"[a-z]+:", target)]


@pytest.fixture(scope="session")
def documents(root: Path) -> dict[str, Document]:
    """All documents by their path in the project."""
    paths = [*root.glob("*.md"), *(root / "docs").rglob("*.md")]
    return {str(path.relative_to(root)): Document(path, path.read_text(encoding="utf-8")) for path in sorted(paths)}
