"""A layered drawing of steps and datasets: layers as columns from input to gold, edges left to right.

Each step is a box with the datasets it writes; a source is a box of its own. The way is Sugiyama's: ranks by longest
path within the layers' columns, long edges given places of their own in the ranks they cross, ranks ordered by
barycentres to lower the number of crossings, then heights straightened towards the neighbours.
(K. Sugiyama, S. Tagawa, M. Toda: Methods for visual understanding of hierarchical system structures, 1981.)
Own code rather than a vendored library: the graph is small, the drawing is wanted without a script, and the same input
has to give the same bytes.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import fmean
from typing import Final

from pipeline.report.facts import Facts, StepFacts, layer, layer_rank

HEADER: Final = 28
ROW: Final = 42
PADDING: Final = 6
GAP: Final = 18
LANE: Final = 12
GUTTER: Final = 36
MARGIN: Final = 14
TOP: Final = 40
WIDEST: Final = 186
NARROWEST: Final = 148
# The page's text width: up to there boxes shrink so that nothing has to be scrolled.
PAGE_WIDTH: Final = 1176
SWEEPS: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """One dataset in a box; `y` is the middle of its line."""

    dataset: str
    y: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A step with what it writes, or (`step` is None) one source. `entry` is where edges arrive."""

    id: str
    layer: str
    step: StepFacts | None
    x: float
    y: float
    height: float
    entry: float
    ports: tuple[Port, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """A stretch of the way of a dataset to the steps that read it, as an SVG path; the last one `ends` at a box."""

    dataset: str
    steps: tuple[str, ...]
    path: str
    ends: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """The columns of one layer."""

    layer: str
    x: float
    width: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """The drawing, in pixels. `box_width` is that of every box."""

    boxes: tuple[Box, ...]
    edges: tuple[Edge, ...]
    bands: tuple[Band, ...]
    width: float
    height: float
    box_width: float


@dataclass(slots=True)
class _Node:
    """A box, or a place that a long edge takes in a rank it crosses (`dataset` is then what it carries)."""

    id: str
    layer: str
    rank: int
    height: float
    step: StepFacts | None = None
    datasets: tuple[str, ...] = ()
    lane_of: str | None = None
    y: float = 0.0
    sources: list[tuple["_Node", str]] = field(default_factory=list)
    targets: list[tuple["_Node", str]] = field(default_factory=list)

    @property
    def entry(self) -> float:
        """Where edges arrive, below the top."""
        return self.height / 2 if self.step is None else HEADER / 2

    def exit(self, dataset: str) -> float:
        """Where the edges of `dataset` leave, below the top."""
        if self.lane_of is not None:
            return self.height / 2
        return (0 if self.step is None else HEADER) + PADDING / 2 + ROW * (self.datasets.index(dataset) + 0.5)


def draw(facts: Facts) -> Graph:
    """The graph of a run's steps, those that were not reached included."""
    nodes = _nodes(facts.steps)
    _rank(nodes)
    ranks = _with_lanes(nodes)
    _order(ranks)
    _straighten(ranks)
    return _place(ranks)


def _nodes(steps: Sequence[StepFacts]) -> list[_Node]:
    """A node for each step and each source, linked."""
    written = {dataset for step in steps for dataset in step.outputs}
    sources = sorted({dataset for step in steps for dataset in step.inputs} - written, key=lambda name: (layer_rank(name), _first_reader(steps, name), name))
    nodes = [_Node(f"dataset-{name}", layer(name), 0, ROW + PADDING, datasets=(name,)) for name in sources]
    for step in steps:
        home = min(step.outputs, key=layer_rank, default="")
        nodes.append(_Node(f"step-{step.name}", layer(home), 0, HEADER + ROW * len(step.outputs) + PADDING, step=step, datasets=step.outputs))
    makers = {dataset: node for node in nodes for dataset in node.datasets}
    for node in nodes:
        for dataset in node.step.inputs if node.step else ():
            _link(makers[dataset], node, dataset)
    return nodes


def _first_reader(steps: Sequence[StepFacts], dataset: str) -> int:
    return next(index for index, step in enumerate(steps) if dataset in step.inputs)


def _link(source: _Node, target: _Node, dataset: str) -> None:
    source.targets.append((target, dataset))
    target.sources.append((source, dataset))


def _rank(nodes: Sequence[_Node]) -> None:
    """Longest paths, each layer beginning to the right of the one before. Steps come in an order in which they can run."""
    base = 0
    for _, members in _grouped(sorted(nodes, key=lambda node: layer_rank(node.layer))):
        for node in members:
            node.rank = max([base, *(source.rank + 1 for source, _ in node.sources)])
        base = max(node.rank for node in members) + 1


def _grouped(nodes: Iterable[_Node]) -> list[tuple[str, list[_Node]]]:
    groups: dict[str, list[_Node]] = {}
    for node in nodes:
        groups.setdefault(node.layer, []).append(node)
    return list(groups.items())


def _with_lanes(nodes: Sequence[_Node]) -> list[list[_Node]]:
    """The ranks, with a lane for each dataset in each rank that an edge of it crosses; edges of one dataset share lanes."""
    ranks: list[list[_Node]] = [[] for _ in range(max((node.rank for node in nodes), default=-1) + 1)]
    for node in nodes:
        ranks[node.rank].append(node)
    lanes: dict[tuple[str, int], _Node] = {}
    for node in nodes:
        for source, dataset in list(node.sources):
            if node.rank - source.rank > 1:
                _detour(source, node, dataset, lanes, ranks)
    return ranks


def _detour(source: _Node, target: _Node, dataset: str, lanes: dict[tuple[str, int], _Node], ranks: list[list[_Node]]) -> None:
    source.targets.remove((target, dataset))
    target.sources.remove((source, dataset))
    before = source
    for rank in range(source.rank + 1, target.rank):
        lane = lanes.get((dataset, rank))
        if lane is None:
            lane = lanes[dataset, rank] = _Node(f"lane-{dataset}-{rank}", "", rank, LANE, lane_of=dataset)
            ranks[rank].append(lane)
            _link(before, lane, dataset)
        before = lane
    _link(before, target, dataset)


def _order(ranks: list[list[_Node]]) -> None:
    """Order each rank by the mean place of its neighbours, there and back, keeping the order with the fewest crossings."""
    best, fewest = [list(rank) for rank in ranks], crossings(ranks)
    for sweep in range(SWEEPS):
        forward = sweep % 2 == 0
        for index in range(1, len(ranks)) if forward else range(len(ranks) - 2, -1, -1):
            beside = {node.id: place for place, node in enumerate(ranks[index - 1 if forward else index + 1])}
            ranks[index] = _by_barycentre(ranks[index], beside, forward=forward)
        found = crossings(ranks)
        if found < fewest:
            best, fewest = [list(rank) for rank in ranks], found
    ranks[:] = best


def _by_barycentre(rank: list[_Node], beside: Mapping[str, int], *, forward: bool) -> list[_Node]:
    def centre(place: int, node: _Node) -> float:
        places = [beside[other.id] for other, _ in (node.sources if forward else node.targets)]
        return fmean(places) if places else place

    order = sorted(range(len(rank)), key=lambda place: (centre(place, rank[place]), place))
    return [rank[place] for place in order]


def crossings(ranks: Sequence[Sequence[_Node]]) -> int:
    """How many pairs of edges cross between neighbouring ranks."""
    found = 0
    for rank, beside in pairwise(ranks):
        places = {node.id: place for place, node in enumerate(beside)}
        lines = [(place, places[target.id]) for place, node in enumerate(rank) for target, _ in node.targets]
        found += sum((a - c) * (b - d) < 0 for index, (a, b) in enumerate(lines) for c, d in lines[:index])
    return found


def _straighten(ranks: list[list[_Node]]) -> None:
    """Give each node a height near its neighbours', in the order of its rank and without overlap."""
    for rank in ranks:
        _stack(rank, [0.0] * len(rank))
    for sweep in range(SWEEPS):
        for rank in ranks if sweep % 2 == 0 else reversed(ranks):
            _stack(rank, [_wish(node) for node in rank])
    top = min((node.y for rank in ranks for node in rank), default=0.0)
    for rank in ranks:
        for node in rank:
            node.y += TOP - top


def _wish(node: _Node) -> float:
    """Where its edges would be straight. Lanes pull harder at each other, or a long edge would wobble."""
    wishes = [(source.y + source.exit(dataset) - node.entry, _pull(source, node)) for source, dataset in node.sources]
    wishes += [(target.y + target.entry - node.exit(dataset), _pull(node, target)) for target, dataset in node.targets]
    return sum(wish * pull for wish, pull in wishes) / sum(pull for _, pull in wishes) if wishes else node.y


def _pull(source: _Node, target: _Node) -> int:
    return (1 if source.lane_of is None else 4) * (1 if target.lane_of is None else 4)


def _stack(rank: Sequence[_Node], wishes: Sequence[float]) -> None:
    """The places nearest to the wishes, in squares, that keep order and gaps: blocks that would overlap are merged at their mean."""
    blocks: list[tuple[float, list[_Node], list[float]]] = []
    for node, wish in zip(rank, wishes, strict=True):
        members, offsets, start = [node], [0.0], wish
        while blocks and blocks[-1][0] + _extent(blocks[-1]) > start:
            before, others, shifts = blocks.pop()
            push = _extent((before, others, shifts))
            start = (before * len(others) + (start - push) * len(members)) / (len(others) + len(members))
            members, offsets = [*others, *members], [*shifts, *(push + offset for offset in offsets)]
        blocks.append((start, members, offsets))
    for start, members, offsets in blocks:
        for node, offset in zip(members, offsets, strict=True):
            node.y = start + offset


def _extent(block: tuple[float, list[_Node], list[float]]) -> float:
    _, members, offsets = block
    return offsets[-1] + members[-1].height + GAP


def _place(ranks: list[list[_Node]]) -> Graph:
    """Pixels: boxes, edges as smooth lines, and the layers' bands behind them."""
    columns = max(len(ranks), 1)
    box_width = min(max((PAGE_WIDTH - 2 * MARGIN - GUTTER * (columns - 1)) / columns, NARROWEST), WIDEST)
    left = [MARGIN + rank * (box_width + GUTTER) for rank in range(columns)]
    nodes = [node for rank in ranks for node in rank]
    boxes = tuple(_box(node, left[node.rank]) for node in nodes if node.lane_of is None)
    edges = tuple(_edge(node, target, dataset, left, box_width) for node in nodes for target, dataset in node.targets)
    return Graph(
        boxes=boxes,
        edges=edges,
        bands=_bands(ranks, left, box_width),
        width=round(left[-1] + box_width + MARGIN, 1),
        height=round(max((node.y + node.height for node in nodes), default=0.0) + MARGIN, 1),
        box_width=round(box_width, 1),
    )


def _box(node: _Node, x: float) -> Box:
    ports = tuple(Port(dataset=dataset, y=round(node.y + node.exit(dataset), 1)) for dataset in node.datasets)
    return Box(
        id=node.id,
        layer=node.layer,
        step=node.step,
        x=round(x, 1),
        y=round(node.y, 1),
        height=node.height,
        entry=round(node.y + node.entry, 1),
        ports=ports,
    )


def _edge(source: _Node, target: _Node, dataset: str, left: Sequence[float], box_width: float) -> Edge:
    """One stretch between neighbouring ranks; through a lane it goes on straight to the lane's far side."""
    x1, y1 = left[source.rank] + box_width, source.y + source.exit(dataset)
    x2, y2 = left[target.rank], target.y + target.entry
    middle = (x1 + x2) / 2
    through = f" H{x2 + box_width:.1f}" if target.lane_of else ""
    path = f"M{x1:.1f} {y1:.1f} C{middle:.1f} {y1:.1f} {middle:.1f} {y2:.1f} {x2:.1f} {y2:.1f}{through}"
    return Edge(dataset=dataset, steps=tuple(sorted(_readers(target))), path=path, ends=target.lane_of is None)


def _readers(node: _Node) -> set[str]:
    """The steps that an edge into this node leads to."""
    if node.step is not None:
        return {node.step.name}
    return {name for target, _ in node.targets for name in _readers(target)}


def _bands(ranks: Sequence[Sequence[_Node]], left: Sequence[float], box_width: float) -> tuple[Band, ...]:
    """Neighbouring ranks with the same layers share a band."""
    names = [_layers(rank) for rank in ranks]
    bands: list[Band] = []
    for name, x in zip(names, left, strict=False):
        if bands and bands[-1].layer == name:
            bands[-1] = Band(layer=name, x=bands[-1].x, width=x + box_width + GUTTER / 2 - bands[-1].x)
        else:
            bands.append(Band(layer=name, x=x - GUTTER / 2 if bands else 0.0, width=box_width + GUTTER if bands else MARGIN + box_width + GUTTER / 2))
    if bands:
        bands[-1] = Band(layer=bands[-1].layer, x=bands[-1].x, width=left[-1] + box_width + MARGIN - bands[-1].x)
    return tuple(bands)


def _layers(rank: Sequence[_Node]) -> str:
    found = {node.layer for node in rank if node.lane_of is None}
    return ", ".join(sorted(found, key=lambda name: (layer_rank(name), name)))
