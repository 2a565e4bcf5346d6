"""What MkDocs reads: the repository's pages, under the paths that they have in the repository.

So links between pages are the same in both places. A notebook becomes a page, files that pages link
to are copied, a link to a folder becomes text, and a Mermaid flowchart becomes a picture.

Example: make docs
"""

import json
import re
from pathlib import Path

import griffe
from flowchart import flowchart
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent
SITE = ("*.md", "docs/**/*.md", "docs/*.ipynb", "results/*.md", "benchmarks/*.md", "docs/site.css")
LINK = re.compile(r"\[((?:[^][]|\[[^]]*\])*)\]\((?!\w+:|#)([^)#\s]+)(#[^)\s]*)?\)")
EXAMPLE = re.compile(r"^Example:$", re.MULTILINE)
FENCE = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Draw flowcharts while the site is built, so that pages need no script for them."""
    fence = {
        "name": "mermaid",
        "class": "mermaid",
        "format": lambda source, *_, **__: flowchart(source),
    }
    config.mdx_configs["pymdownx.superfences"] = {"custom_fences": [fence]}
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Replace what is in docs/ by the pages of the repository and the files that they link to."""
    for file in [file for file in files if file.src_dir == config.docs_dir]:
        files.remove(file)
    wanted = {path for pattern in SITE for path in ROOT.glob(pattern)}
    for page in sorted(wanted):
        targets = (page.parent / link[2] for link in LINK.finditer(markdown_of(page)))
        wanted |= {target.resolve() for target in targets if target.is_file()}
    for path in sorted(wanted):
        name = path.relative_to(ROOT).as_posix()
        if path.suffix == ".ipynb":
            file = File.generated(config, name, content=markdown_of(path))
            file.is_documentation_page = lambda: True  # type: ignore[method-assign]
        else:
            file = File(name, str(ROOT), config.site_dir, config.use_directory_urls)
        files.append(file)
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Keep the text of a link to a folder."""
    folder = (ROOT / page.file.src_uri).parent
    return LINK.sub(lambda link: link[1] if (folder / link[2]).is_dir() else link[0], markdown)


def markdown_of(path: Path) -> str:
    """Return a page's Markdown; a notebook's has the code and outputs of its cells."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".ipynb":
        return FENCE.sub("", text)
    parts = []
    for cell in json.loads(text)["cells"]:
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
        for output in cell.get("outputs", []):
            data = output.get("data", {"text/plain": output.get("text", "")})
            if "image/png" in data:
                image = "".join(data["image/png"]).replace("\n", "")
                parts.append(f"![Output of the cell above](data:image/png;base64,{image})")
            else:
                parts.append(f"```text\n{''.join(data['text/plain']).rstrip()}\n```")
    return "\n\n".join(parts)


class Examples(griffe.Extension):
    """Read a docstring's `Example:` as the section that griffe calls `Examples:`."""

    def on_object(self, *, obj: griffe.Object, **kwargs: object) -> None:
        """Rename the heading of an object's examples."""
        if obj.docstring is not None:
            obj.docstring.value = EXAMPLE.sub("Examples:", obj.docstring.value)
