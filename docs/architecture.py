"""Draw the rooms and who imports whom into docs/architecture.md.

The page's Mermaid pictures and its table of rooms are made from the code: an arrow stands for an
import, and one that follows from others (a -> b -> c, hence a -> c) is left out.

Example: python docs/architecture.py --write
"""

from __future__ import annotations

import argparse
import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "architecture.md"
TOPS = ("reproductions", "stages", "pipeline", "arcore")
WHOLE = TOPS[:2]  # drawn as one room each
Graph = dict[str, set[str]]


def module_files() -> dict[str, Path]:
    """Return each module's file, by its dotted name."""
    files = {}
    for top in TOPS:
        for path in sorted((ROOT / top).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            files[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return files


def imports_of(path: Path) -> Iterator[str]:
    """Yield what a module imports anywhere in its code, modules or names of modules."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room_of(module: str) -> str:
    """Return the room of a module: a folder of pipeline or arcore, or a module of arcore itself."""
    top, *rest = module.split(".")
    return top if top in WHOLE or not rest else f"{top}.{rest[0]}"


def room_graph(files: dict[str, Path]) -> Graph:
    """Return which rooms each room imports, but for the packages arcore and pipeline themselves."""
    graph: Graph = {room_of(module): set() for module in files if module not in TOPS}
    graph |= {name: set() for name in WHOLE}
    for module, path in files.items():
        if module in ("pipeline", "arcore"):
            continue
        room = room_of(module)
        for name in imports_of(path):
            target = name if name in files else name.rpartition(".")[0]
            if target in files and (other := room_of(target)) != room:
                graph[room].add(other)
    return graph


def merge(graph: Graph, prefix: str) -> Graph:
    """Return the graph with all rooms of a package as one."""

    def name(room: str) -> str:
        return prefix if room.split(".")[0] == prefix else room

    merged: Graph = {}
    for room, others in graph.items():
        merged.setdefault(name(room), set()).update(map(name, others))
    return {room: others - {room} for room, others in merged.items()}


def reduce(graph: Graph) -> Graph:
    """Leave out the arrows that follow from others."""

    def reached(room: str) -> set[str]:
        found: set[str] = set()
        todo = [room]
        while todo:
            for other in graph[todo.pop()] - found:
                found.add(other)
                todo.append(other)
        return found

    beyond = {room: reached(room) for room in graph}
    return {
        room: {other for other in others if not any(other in beyond[via] for via in others)}
        for room, others in graph.items()
    }


def upper_first(graph: Graph) -> list[str]:
    """Return the rooms by how many levels of others they stand on, the most first."""

    def height(room: str) -> int:
        return 1 + max(map(height, graph[room]), default=0)

    return sorted(graph, key=lambda room: (-height(room), room))


def mermaid(graph: Graph) -> str:
    """Return a Mermaid flowchart, upper rooms first."""
    lines = ["```mermaid", "flowchart TD"]
    for room in upper_first(graph):
        label = room.rpartition(".")[2]
        lines.append(f"  {room.replace('.', '_')}[{label}]")
    for room in upper_first(graph):
        for other in sorted(graph[room]):
            lines.append(f"  {room.replace('.', '_')} --> {other.replace('.', '_')}")
    return "\n".join([*lines, "```"])


def table(rooms: list[str], files: dict[str, Path]) -> str:
    """Return what each folder that is a room, or a room inside one, is for, from its docstring."""
    lines = ["| room | what it is for, and what not |", "|---|---|"]
    rooms = [room for room in rooms if room not in TOPS[1:]]
    inside = {room: sorted(f for f in files if f.rpartition(".")[0] == room) for room in rooms}
    for room in (name for outer in rooms for name in (outer, *inside[outer])):
        path = files[room]
        if path.name == "__init__.py":
            docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
            lines.append(f"| `{room.replace('.', '/')}/` | {' '.join(docstring.split())} |")
    return "\n".join(lines)


def parts() -> dict[str, str]:
    """Return what the page has between its markers, by the markers' names."""
    files = module_files()
    graph = room_graph(files)
    inside = {
        room: {other for other in others if other.startswith("arcore.")}
        for room, others in graph.items()
        if room.startswith("arcore.")
    }
    pictures = {"pipeline": reduce(merge(graph, "arcore")), "arcore": reduce(inside)}
    return {
        name: f"{mermaid(picture)}\n\n{table(upper_first(picture), files)}"
        for name, picture in pictures.items()
    }


def filled(page: str) -> str:
    """Return the page with what stands between `<!-- name -->` and `<!-- end -->` made anew."""
    for name, text in parts().items():
        before, marker, rest = page.partition(f"<!-- {name} -->\n")
        _, end, after = rest.partition("<!-- end -->\n")
        if not (marker and end):
            raise SystemExit(f"{PAGE.name}: expected <!-- {name} --> ... <!-- end -->")
        page = f"{before}{marker}{text}\n{end}{after}"
    return page


def main() -> None:
    """Check that the page is in step with the code, or bring it into step."""
    parser = argparse.ArgumentParser(description="The rooms' picture in docs/architecture.md.")
    parser.add_argument("--write", action="store_true", help="bring the page into step")
    written = PAGE.read_text(encoding="utf-8")
    page = filled(written)
    if parser.parse_args().write:
        PAGE.write_text(page, encoding="utf-8")
    elif page != written:
        raise SystemExit(f"{PAGE.name}: not in step; run python docs/architecture.py --write")


if __name__ == "__main__":
    main()
