"""Where a file came from, or what came from it: files, tasks and their relations, as PROV has them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from dbb.errors import AmbiguousError, NotFoundError
from dbb.patterns import is_safe_path
from dbb.registry import Database
from dbb.registry._connect import one_of
from dbb.registry._tables import desfile, file_archive_info, task
from dbb.registry.archives import archives
from dbb.registry.provenance import DERIVED, FILE, GENERATED, TASK, USED, Edge, edges_from
from dbb.registry.relpaths import join_relpath, split_relpath
from dbb.registry.runs import all_runs
from dbb.storage import local_path

_DEEPEST = 50
"""How deep a tree is indented."""
_WORDS = {
    # relation, upwards: what the tree says of the next node
    (USED, True): "used",
    (GENERATED, True): "made by",
    (DERIVED, True): "derived from",
    (USED, False): "used by",
    (GENERATED, False): "made",
    (DERIVED, False): "became",
}


@dataclass(frozen=True, slots=True)
class Node:
    """A file or a task.

    Parameters
    ----------
    id
        ``file-12`` or ``task-3``, by the ids that the tables ``desfile`` and ``task`` have.
    name
        The path in its archive, or the file name of what no archive keeps; a task's name and label.
    facts
        What else is known, by name.
    """

    id: str
    name: str
    facts: Mapping[str, Any]

    @property
    def is_task(self) -> bool:
        """Whether it is a task, not a file."""
        return self.id.startswith("task-")


@dataclass(frozen=True, slots=True)
class Lineage:
    """All that a file came from (`up`), or that came from it: nodes by id, the file first, and relations of ids."""

    nodes: Mapping[str, Node]
    edges: tuple[tuple[str, str, str], ...]
    up: bool

    def as_rows(self) -> list[dict[str, Any]]:
        """Return nodes, then relations, each as one object with the key ``kind``."""
        rows: list[dict[str, Any]] = [
            {"kind": "task" if node.is_task else "file", "id": node.id, "name": node.name, **node.facts}
            for node in self.nodes.values()
        ]
        return rows + [{"kind": relation, "from": source, "to": target} for relation, source, target in self.edges]

    def tree(self) -> Iterator[str]:
        """Give the lines of a tree; what was shown further up is not unfolded again.

        What lies very deep goes on below, as a tree of its own: indented ever deeper, the text of a long chain would
        grow with the square of its length.
        """
        following: dict[str, list[tuple[str, str]]] = {}
        for relation, source, target in self.edges:
            here, there = (source, target) if self.up else (target, source)
            following.setdefault(here, []).append((_WORDS[relation, self.up], there))
        shown: set[str] = set()
        waiting = dict.fromkeys([next(iter(self.nodes))])
        while waiting:
            root = next(iter(waiting))
            del waiting[root]
            if root not in shown:
                yield from self._tree(root, following, shown, waiting)

    def _tree(
        self, root: str, following: Mapping[str, list[tuple[str, str]]], shown: set[str], waiting: dict[str, None]
    ) -> Iterator[str]:
        """Give the lines of the tree of one node; note what was shown, and what is left for another tree."""
        yield _described(self.nodes[root])
        shown.add(root)
        # a stack of its own: lineages may be deeper than Python's
        stack = [("", iter(_with_last(following.get(root, []))))]
        while stack:
            indent, children = stack[-1]
            word, node, last = next(children, ("", "", False))
            if not node:
                stack.pop()
                continue
            more = ""
            if node in shown:
                more = " (see above)" if node in following else ""
            elif node in waiting or (node in following and len(stack) >= _DEEPEST):
                waiting[node] = None
                more = " (goes on below)"
            yield f"{indent}{'└── ' if last else '├── '}{word} {_described(self.nodes[node])}{more}"
            if not more and node not in shown:
                shown.add(node)
                stack.append((indent + ("    " if last else "│   "), iter(_with_last(following.get(node, [])))))


def _with_last(children: list[tuple[str, str]]) -> list[tuple[str, str, bool]]:
    return [(word, node, number == len(children) - 1) for number, (word, node) in enumerate(children)]


def _described(node: Node) -> str:
    more = " ".join(str(node.facts[key]) for key in ("filetype", "run") if node.facts.get(key))
    return f"{node.name}  [{more}]" if more else node.name


def lineage(db: Database, name: str, *, up: bool = True) -> Lineage:
    """Return all that a file came from, or with ``up=False`` all that came from it.

    Parameters
    ----------
    db
        The registry.
    name
        File name, path in an archive, or that with the archive's root before it; with or without the suffix of a
        compression.

    Raises
    ------
    NotFoundError
        If no file is called so.
    AmbiguousError
        If several are; names their paths.

    Notes
    -----
    Two statements find the file, one recursive statement all relations, and two the names of files and tasks.
    """
    with db.read() as conn:
        start = _find(conn, name)
        edges = edges_from(conn, start, up=up)
        nodes = dict.fromkeys([(FILE, start), *(node for edge in edges for node in (edge.subject, edge.object))])
        known = _files(conn, [number for kind, number in nodes if kind == FILE])
        known |= _tasks(conn, [number for kind, number in nodes if kind == TASK])
    return Lineage({_id(node): known[node] for node in nodes}, tuple(map(_readable, edges)), up)


def _readable(edge: Edge) -> tuple[str, str, str]:
    return edge.relation, _id(edge.subject), _id(edge.object)


def _id(node: tuple[int, int]) -> str:
    return f"{'task' if node[0] == TASK else 'file'}-{node[1]}"


def _find(conn: sa.Connection, name: str) -> int:
    place = file_archive_info
    roots = archives(conn)
    # of nested archives each may have the file
    within = {
        archive: name.removeprefix(start)
        for archive, root in roots.items()
        for start in {f"{root}/", f"{local_path(root)}/"}
        if name.startswith(start) and is_safe_path(name.removeprefix(start))
    }
    path, filename, compression = split_relpath(next(iter(within.values()), name))
    statement = (
        sa.select(desfile.c.id, desfile.c.filename, desfile.c.compression, place.c.archive_name, place.c.path)
        .outerjoin(place, place.c.desfile_id == desfile.c.id)
        .where(desfile.c.filename == filename)
        .order_by(desfile.c.id, place.c.archive_name)
    )
    if compression:
        statement = statement.where(desfile.c.compression == compression)
    if within:
        folders = {archive: split_relpath(relpath)[0] for archive, relpath in within.items()}
        there = [sa.and_(place.c.archive_name == one, place.c.path == folder) for one, folder in folders.items()]
        statement = statement.where(sa.or_(*there))
    elif "/" in name:
        statement = statement.where(place.c.path == path)
    rows = conn.execute(statement).all()
    if not rows:
        raise NotFoundError("file", name, hint="No registered file has this name or path")
    exact = {row[0] for row in rows if row[2] == compression} or {row[0] for row in rows}
    if len(exact) > 1:
        places = [_place(roots, *row[1:]) for row in rows if row[0] in exact]
        listed = "\n    ".join(dict.fromkeys(places))
        raise AmbiguousError(f"several files are called {name}:\n    {listed}\nGive the path of the one you mean")
    return int(exact.pop())


def _place(roots: Mapping[str, str], filename: str, compression: str, archive: str | None, path: str | None) -> str:
    if path is None or archive is None:
        return f"{filename}{compression} (in no archive)"
    return f"{local_path(roots[archive])}/{join_relpath(path, filename, compression)} in {archive}"


def _files(conn: sa.Connection, numbers: list[int]) -> dict[tuple[int, int], Node]:
    runs, place = all_runs(conn), file_archive_info
    names = ("id", "filename", "compression", "filetype", "filesize", "md5sum", "pfw_attempt_id")
    rows = conn.execute(
        sa.select(*(desfile.c[name] for name in names), place.c.archive_name, place.c.path)
        .outerjoin(place, place.c.desfile_id == desfile.c.id)
        .where(one_of(desfile.c.id, numbers, conn.dialect.name))
        .order_by(desfile.c.id, place.c.archive_name)
    )
    found: dict[tuple[int, int], Node] = {}
    for number, filename, compression, filetype, filesize, md5sum, attempt, *place_of in rows:
        archive, path = place_of
        relpath = None if path is None else join_relpath(path, filename, compression)
        facts = {
            "filename": filename,
            "filetype": filetype,
            "run": None if attempt is None else str(runs[attempt]),
            "archive": archive,
            "filesize": filesize,
            "md5sum": md5sum,
        }
        node = Node(_id((FILE, number)), relpath or f"{filename}{compression}", facts)
        found.setdefault((FILE, number), node)  # of several archives, the first by name
    return found


def _tasks(conn: sa.Connection, numbers: list[int]) -> dict[tuple[int, int], Node]:
    if not numbers:
        return {}
    names = ("id", "name", "label", "start_time", "end_time", "status", "exec_host")
    rows = conn.execute(
        sa.select(*(task.c[name] for name in names)).where(one_of(task.c.id, numbers, conn.dialect.name))
    )
    found = {}
    for number, name, label, start, end, status, host in rows:
        facts = {"start": _iso(start), "end": _iso(end), "status": status, "host": host}
        found[TASK, number] = Node(_id((TASK, number)), f"{name} {label}" if label else name, facts)
    return found


def _iso(moment: float | dt.datetime | None) -> str | None:
    if moment is None:
        return None
    if not isinstance(moment, dt.datetime):
        moment = dt.datetime.fromtimestamp(moment, dt.UTC)
    return moment.astimezone(dt.UTC).isoformat(timespec="seconds")
