"""Reads a YAML file into plain values, with the line of each; the only module that imports PyYAML.

What is read is the JSON part of YAML 1.2: `no`, `on` and `12:30` are text, dates are text, numbers are decimal.
Refused: a key twice, anchors and aliases, tags, more than one document.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.records import JsonValue

if TYPE_CHECKING:
    import yaml

JsonPath = tuple[str | int, ...]

_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_NUMBER = re.compile(r"[-+]?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?")
_WORDS: dict[str, JsonValue] = {"true": True, "false": False, "null": None, "~": None, "": None}


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong in one place of a file, and what mends it. Lines count from 1."""

    file: str
    line: int
    message: str
    hint: str = ""

    def __str__(self) -> str:
        """As `contracts/weight.yaml:12: what is wrong`, without the hint."""
        return f"{self.file}:{self.line}: {self.message}"


@dataclass(slots=True)
class Source:
    """A file's content as plain values; `lines` has the line of each key and list item by its path."""

    file: str
    value: JsonValue = None
    lines: dict[JsonPath, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def problem(self, path: JsonPath, message: str, hint: str = "") -> Problem:
        """A problem at the line of `path`, or of its nearest parent that has one."""
        while path and path not in self.lines:
            path = path[:-1]
        return Problem(self.file, self.lines.get(path, 1), message, hint)


def shown_path(path: Path) -> str:
    """`path` as it is shown: relative to the working folder where it lies below it."""
    resolved, here = path.resolve(), Path.cwd()
    return str(resolved.relative_to(here) if resolved.is_relative_to(here) else path)


def read_yaml(path: Path) -> Source:
    """The content of a YAML file; what is wrong with its form is in `problems`.

    Raises:
        OSError: the file can't be read.
    """
    import yaml

    source = Source(shown_path(path))
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        root = yaml.compose(path.read_text(encoding="utf-8"), Loader=loader)
    except UnicodeDecodeError as error:
        source.problems.append(Problem(source.file, 1, f"byte {error.start} is not UTF-8", "save the file as UTF-8"))
        return source
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        source.problems.append(Problem(source.file, line, f"not YAML: {error.problem or error.context}", "check indents, colons and quotes there"))
        return source
    except yaml.reader.ReaderError as error:
        source.problems.append(Problem(source.file, 1, f"not YAML: {error.reason}", "remove the character"))
        return source
    if root is not None:
        source.value = _Builder(source).build(root, ())
    return source


class _Builder:
    """Turns composed nodes into plain values, noting lines and problems."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.seen: set[int] = set()

    def build(self, node: "yaml.Node", path: JsonPath) -> JsonValue:
        import yaml

        self.source.lines.setdefault(path, node.start_mark.line + 1)
        if id(node) in self.seen:
            self._note(node, "an alias stands here", "write the value out; anchors and aliases are not read")
            return None
        self.seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.build(item, (*path, index)) for index, item in enumerate(node.value)]
        return self._scalar(node) if isinstance(node, yaml.ScalarNode) else None

    def _mapping(self, node: "yaml.MappingNode", path: JsonPath) -> JsonValue:
        values: dict[str, JsonValue] = {}
        for key, value_node, line in self._entries(node):
            if key in values:
                first = self.source.lines[(*path, key)]
                self.source.problems.append(Problem(self.source.file, line, f"'{key}' is written twice", f"the first is in line {first}"))
                continue
            self.source.lines[(*path, key)] = line
            values[key] = self.build(value_node, (*path, key))
        return values

    def _entries(self, node: "yaml.MappingNode") -> "Iterator[tuple[str, yaml.Node, int]]":
        import yaml

        for key_node, value_node in node.value:
            if isinstance(key_node, yaml.ScalarNode):
                yield str(key_node.value), value_node, key_node.start_mark.line + 1
            else:
                self._note(key_node, "a key is not a word", "keys are single words")

    def _scalar(self, node: "yaml.ScalarNode") -> JsonValue:
        text = str(node.value)
        # An explicit tag is the only way to a tag outside of YAML's own types.
        if not str(node.tag).startswith("tag:yaml.org,2002:") or str(node.tag).startswith("tag:yaml.org,2002:python"):
            self._note(node, f"the tag {node.tag} is not known", "leave the tag out")
            return None
        if node.style in ("'", '"', "|", ">"):  # quoted or a block: always text
            return text
        if text in _WORDS:
            return _WORDS[text]
        if _INTEGER.fullmatch(text):
            return int(text)
        return float(text) if _NUMBER.fullmatch(text) else text

    def _note(self, node: "yaml.Node", message: str, hint: str) -> None:
        self.source.problems.append(Problem(self.source.file, node.start_mark.line + 1, message, hint))
