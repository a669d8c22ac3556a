"""What is too large for an item stands beside it, in pieces; who reads the item puts them back.

The pieces are written first, under a token that nobody looks for until the item names it, and those that it named before go last.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import NamedTuple

from pipeline.tracking.dynamodb import values
from pipeline.tracking.dynamodb.client import Item, Key, Table
from pipeline.tracking.dynamodb.schema import PARTITION, SORT

# DynamoDB takes 400 KB for an item and its entries in local indexes together, and ours has the whole item once more (emulators
# don't mind). What an item counts is estimated upwards.
ITEM_BYTES = 195_000

# Where the pieces of one owner are, by token and place.
Places = Callable[[str, int], Key]


class Parts(NamedTuple):
    """Where the sections are that did not fit into an item."""

    token: str
    pieces: int
    sections: tuple[str, ...]


def fit(table: Table, places: Places, head: Item, sections: dict[str, Item]) -> tuple[Item, Parts | None]:
    """An item with as many of the sections as there is room for. The others are put beside it, and the item says where."""
    sizes = {name: sum(values.room(value) for value in attributes.values()) for name, attributes in sections.items()}
    room = ITEM_BYTES - sum(values.room(value) for value in head.values())
    item = dict(head)
    elsewhere = []
    for name in sorted(sections, key=lambda name: sizes[name]):
        room -= sizes[name]
        if room >= 0:
            item.update(sections[name])
        else:
            elsewhere.append(name)
    if not elsewhere:
        return item, None
    parts = _put(table, places, {name: sections[name] for name in elsewhere})
    return {**item, "parts": _item(parts)}, parts


def _put(table: Table, places: Places, sections: dict[str, Item]) -> Parts:
    packed = values.pack({name: _as_text(attributes) for name, attributes in sections.items()})
    token, pieces = secrets.token_hex(8), values.split(packed)
    for place, piece in enumerate(pieces):
        partition, sort = places(token, place)
        table.put({PARTITION: {"S": partition}, SORT: {"S": sort}, "part": {"B": piece}})
    return Parts(token, len(pieces), tuple(sections))


def _item(parts: Parts) -> Item:
    return {"M": {"token": {"S": parts.token}, "pieces": {"N": str(parts.pieces)}, "sections": {"SS": list(parts.sections)}}}


def read(item: Item) -> Parts | None:
    """Where an item says that the rest of it is."""
    if "parts" not in item:
        return None
    parts = item["parts"]["M"]
    return Parts(parts["token"]["S"], int(parts["pieces"]["N"]), tuple(parts["sections"]["SS"]))


def load(table: Table, places: Places, parts: Parts) -> list[Item] | None:
    """The sections that are elsewhere. Nothing, when another writer has replaced them meanwhile: the item is to be read anew."""
    keys = [places(parts.token, place) for place in range(parts.pieces)]
    found = table.get_many(keys)
    if len(found) < len(keys):
        return None
    packed = b"".join(found[key]["part"]["B"] for key in keys)
    return [_from_text(attributes) for attributes in values.unpack(packed).values()]


def drop(table: Table, places: Places, parts: Parts | None) -> None:
    """Delete the pieces that no item names any more."""
    for place in range(parts.pieces if parts else 0):
        table.delete(places(parts.token if parts else "", place))


def _as_text(attributes: Item) -> Item:
    """Attributes as JSON holds them: bytes are not."""
    return {name: {"B": value["B"].hex()} if "B" in value else value for name, value in attributes.items()}


def _from_text(attributes: Item) -> Item:
    return {name: {"B": bytes.fromhex(value["B"])} if "B" in value else value for name, value in attributes.items()}
