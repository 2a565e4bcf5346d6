"""Draw the packages and who imports whom into docs/architecture.md.

The page's flowcharts and its table of packages are made from the code: an arrow stands for an
import, and one that follows from others (a -> b -> c, hence a -> c) is left out.

Example: python docs/architecture.py --write
"""

import argparse
import ast
from pathlib import Path

import networkx

from pipeline.core.import_closure import Checkout

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "architecture.md"
TOPS = ("reproductions", "stages", "pipeline", "arcore")
WHOLE = TOPS[:2]  # drawn as one package each
CHECKOUT = Checkout(ROOT, TOPS)
Graph = networkx.DiGraph


def package_of(module: str) -> str:
    """Return a module's package: a folder of pipeline or arcore, or a module of arcore itself."""
    top, *rest = module.split(".")
    return top if top in WHOLE or not rest else f"{top}.{rest[0]}"


def package_graph() -> Graph:
    """Return which packages each package imports, without arcore and pipeline themselves."""
    graph = networkx.DiGraph()
    for module in CHECKOUT.modules.keys() - {*TOPS[2:]}:
        package = package_of(module)
        graph.add_node(package)
        others = {package_of(name) for name in CHECKOUT.imports(module)} - {package}
        graph.add_edges_from((package, other) for other in others)
    return graph


def merge(graph: Graph, prefix: str) -> Graph:
    """Return the graph with all subpackages of a package as one."""
    name = {package: prefix if package.split(".")[0] == prefix else package for package in graph}
    merged = networkx.relabel_nodes(graph, name)
    merged.remove_edges_from(list(networkx.selfloop_edges(merged)))
    return merged


def upper_first(graph: Graph) -> list[str]:
    """Return the packages by how many levels of others they stand on, the most first."""
    levels = list(networkx.topological_generations(graph.reverse()))
    return [package for level in reversed(levels) for package in sorted(level)]


def mermaid(graph: Graph) -> str:
    """Return a Mermaid flowchart, upper packages first."""
    lines = ["```mermaid", "flowchart TD"]
    for package in upper_first(graph):
        label = package.rpartition(".")[2]
        lines.append(f"  {package.replace('.', '_')}[{label}]")
    reduced = networkx.transitive_reduction(graph)
    for package in upper_first(graph):
        for other in sorted(reduced[package]):
            lines.append(f"  {package.replace('.', '_')} --> {other.replace('.', '_')}")
    return "\n".join([*lines, "```"])


def table(packages: list[str]) -> str:
    """Return the purpose of each package and subpackage, from its docstring."""
    lines = ["| package | what it is for, and what not |", "|---|---|"]
    packages = [package for package in packages if package not in TOPS[1:]]
    modules = sorted(CHECKOUT.modules)
    inside = {
        package: [name for name in modules if name.rpartition(".")[0] == package]
        for package in packages
    }
    for package in (name for outer in packages for name in (outer, *inside[outer])):
        path = ROOT / CHECKOUT.modules[package]
        if path.name == "__init__.py":
            docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
            about = " ".join(docstring.partition("Example:")[0].split())
            lines.append(f"| `{package.replace('.', '/')}/` | {about} |")
    return "\n".join(lines)


def parts() -> dict[str, str]:
    """Return what the page has between its markers, by the markers' names."""
    graph = package_graph()
    inside = graph.subgraph(name for name in graph if name.startswith("arcore."))
    pictures = {"pipeline": merge(graph, "arcore"), "arcore": inside}
    return {
        name: f"{mermaid(picture)}\n\n{table(upper_first(picture))}"
        for name, picture in pictures.items()
    }


def filled(page: str) -> str:
    """Return the page with what stands between `<!-- name -->` and `<!-- end -->` made again."""
    for name, text in parts().items():
        before, marker, rest = page.partition(f"<!-- {name} -->\n")
        _, end, after = rest.partition("<!-- end -->\n")
        if not (marker and end):
            raise SystemExit(f"{PAGE.name}: expected <!-- {name} --> ... <!-- end -->")
        page = f"{before}{marker}{text}\n{end}{after}"
    return page


def main() -> None:
    """Check that the page is in step with the code, or bring it into step."""
    parser = argparse.ArgumentParser(description="The packages' picture in docs/architecture.md.")
    parser.add_argument("--write", action="store_true", help="bring the page into step")
    written = PAGE.read_text(encoding="utf-8")
    page = filled(written)
    if parser.parse_args().write:
        PAGE.write_text(page, encoding="utf-8")
    elif page != written:
        raise SystemExit(f"{PAGE.name}: not in step; run python docs/architecture.py --write")


if __name__ == "__main__":
    main()
