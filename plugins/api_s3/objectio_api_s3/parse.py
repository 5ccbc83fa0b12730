"""Reading XML that a client sent: no document types, no entities, bounded in size and depth."""

from __future__ import annotations

from typing import Final
from xml.etree.ElementTree import ParseError

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import DefusedXMLParser

from objectio_api_s3.errors import refuse

_DEPTH_MAX: Final = 8
_ELEMENTS_MAX: Final = 100_000  # a CompleteMultipartUpload of 10,000 parts has 30,000 to 70,000


class Node:
    """An element: its name without namespace, its own text, its children."""

    __slots__ = ("children", "name", "text")

    def __init__(self, name: str) -> None:
        self.name = name
        self.text = ""
        self.children: list[Node] = []

    def all(self, name: str) -> list[Node]:
        return [child for child in self.children if child.name == name]

    def child(self, name: str) -> Node | None:
        """The one child of that name. More than one is malformed."""
        found = self.all(name)
        if len(found) > 1:
            refuse("MalformedXML")
        return found[0] if found else None

    def value(self, name: str, default: str = "") -> str:
        found = self.child(name)
        return default if found is None else found.text


class _Builder:
    """What the parser tells of: builds the tree within bounds."""

    def __init__(self) -> None:
        self.root: Node | None = None
        self._open: list[Node] = []
        self._texts: list[str] = []
        self._count = 0

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        self._count += 1
        if self._count > _ELEMENTS_MAX or len(self._open) == _DEPTH_MAX:
            refuse("MalformedXML")
        node = Node(tag.rpartition("}")[2])
        if self._open:
            self._open[-1].children.append(node)
        else:
            self.root = node
        self._open.append(node)
        self._texts.clear()

    def data(self, text: str) -> None:
        self._texts.append(text)

    def end(self, tag: str) -> None:
        node = self._open.pop()
        if not node.children:
            node.text = "".join(self._texts)
        self._texts.clear()

    def close(self) -> None:
        """The parser wants one."""


def parse(body: bytes, root: str) -> Node:
    """The document, whose outermost element must be `root`. Raises a `Refusal`, MalformedXML."""
    builder = _Builder()
    parser = DefusedXMLParser(target=builder, forbid_dtd=True)
    try:
        parser.feed(body)
        parser.close()
    except (ParseError, DefusedXmlException, ValueError, LookupError):
        # ValueError and LookupError: what an encoding declaration can lead to.
        refuse("MalformedXML")
    if builder.root is None or builder.root.name != root:
        refuse("MalformedXML")
    return builder.root
