"""Writes the notebooks as Markdown pages, with the outputs that are committed in them."""

import base64
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from website import figures

#: What terminals take for colours.
ESCAPES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
FENCED = re.compile(r"^(?P<fence>```+|~~~+).*?^(?P=fence)[`~]*[ ]*$\n?", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?P<text>\[[^\]]*\])\((?P<target>[^)\s#]*)(?P<anchor>#[^)\s]*)?\)")


def _joined(text: str | list[str]) -> str:
    return text if isinstance(text, str) else "".join(text)


def _block(text: str, language: str) -> str:
    """A block of code, between more backticks than there are in it."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


def _outside_of_code(change: Callable[[str], str], text: str) -> str:
    parts, end = [], 0
    for block in FENCED.finditer(text):
        parts += [change(text[end : block.start()]), block[0]]
        end = block.end()
    return "".join([*parts, change(text[end:])])


def _link(notebook: Path, docs: Path, link: re.Match[str]) -> str:
    """A link from a notebook, as one from the notebook's page.

    Raises:
      ValueError: if it leads to a file that does not exist.
    """
    text, target, anchor = link["text"], link["target"], link["anchor"] or ""
    if not target or re.match(r"[a-z]+:", target):
        return link[0]
    path = (notebook.parent / target).resolve()
    if not path.exists():
        raise ValueError(f"{notebook.name}: there is no {target}, of {link[0]}")
    if path.parent == notebook.parent.resolve() and path.suffix == ".ipynb":
        return f"{text}({path.stem}.md{anchor.lower()})"
    if path.is_relative_to(docs.resolve()):
        return f"{text}(../{path.relative_to(docs.resolve()).as_posix()}{anchor})"
    # The site has no page of it. The reader of a clone finds it.
    name = path.relative_to(docs.resolve().parent).as_posix()
    text = text[1:-1]
    return text if name in text else f"{text} (`{name}`)"


def _text(source: str) -> str:
    """Markdown as notebooks have it, with the empty lines that mkdocs needs before some things."""
    source = re.sub(r"\n*^(\$\$.+?\$\$)[ ]*$\n*", r"\n\n\1\n\n", source, flags=re.M | re.S)
    lines: list[str] = []
    paragraph = False
    for line in source.split("\n"):
        item = re.match(r"([-*+]|\d+[.)]) ", line)
        if paragraph and (item or line.startswith("|")):
            lines.append("")
        begins = not lines or not lines[-1]
        paragraph = bool(line) and (paragraph or begins) and not (item or line[0] in "|#> ")
        lines.append(line)
    return "\n".join(lines).strip()


def _lines(text: str) -> str:
    """What a terminal shows: without colours, and of a line that was written anew the last."""
    lines = ESCAPES.sub("", text).rstrip().split("\n")
    return "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in lines)


def _outputs(cell: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Of each output the kind, and its text. What is printed at once is one."""
    printed = ""
    for output in cell["outputs"]:
        if output["output_type"] == "stream":
            printed += _joined(output["text"])
            continue
        if printed:
            yield "text/plain", printed
            printed = ""
        if output["output_type"] == "error":
            raise ValueError(f"an error: {output['ename']}: {output['evalue']}")
        for kind in ("text/markdown", "image/svg+xml", "image/png", "text/plain"):
            if kind in output["data"]:
                yield kind, _joined(output["data"][kind])
                break
        else:
            raise ValueError(f"an output of none of the kinds known: {', '.join(output['data'])}")
    if printed:
        yield "text/plain", printed


def convert(path: Path, docs: Path) -> tuple[str, dict[str, str | bytes]]:
    """A notebook as a page.

    Args:
      path: the notebook.
      docs: the folder of the site's pages, which the notebook links to.

    Returns:
      The page's Markdown, and its figures by name: SVG, or the content of a PNG.

    Raises:
      ValueError: if it has an error, an output that a page cannot show, or a link to nothing.
    """
    pictures: dict[str, str | bytes] = {}
    parts: list[str] = []
    heading = "figure"

    def text(source: str) -> str:
        return _text(LINK.sub(lambda link: _link(path, docs, link), source))

    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        source = _joined(cell["source"])
        if cell["cell_type"] == "markdown":
            if cell.get("attachments"):
                raise ValueError(f"{path.name}: a page cannot show an attachment")
            parts.append(_outside_of_code(text, source))
            headings = re.findall("^#+ (.+)$", source, flags=re.MULTILINE)
            heading = headings[-1] if headings else heading
        if cell["cell_type"] != "code" or not source.strip():
            continue
        parts.append(_block(source, "python"))
        try:
            outputs = list(_outputs(cell))
        except ValueError as error:
            raise ValueError(f"{path.name}: {error}") from None
        for kind, output in outputs:
            if kind == "text/plain":
                parts.append(_block(_lines(output), "text"))
            elif kind == "text/markdown":
                parts.append(_outside_of_code(text, output))
            else:
                name = str(len(pictures) + 1)
                svg = kind == "image/svg+xml"
                pictures[name] = output if svg else base64.b64decode(output)
                stem = f"{path.stem}/{name}"
                alt = re.sub(r"[\[\]*`]", "", heading)
                parts.append(figures.markdown(alt, stem) if svg else f"![{alt}]({stem}.png)")
    title, _, rest = "\n\n".join(parts).partition("\n")
    if not title.startswith("# "):
        raise ValueError(f"{path.name}: the first line must be its title, and is {title!r}")
    source = (
        f"A notebook: [`notebooks/{path.name}`]({path.name}), with the outputs that it has there."
    )
    return f"{title}\n\n{source}\n{rest}\n", pictures


def write(folder: Path, docs: Path) -> None:
    """Write all notebooks of a folder into ``notebooks`` of the site's pages, and the files too."""
    pages = docs / "notebooks"
    for path in sorted(folder.glob("*.ipynb")):
        page, pictures = convert(path, docs)
        pages.mkdir(parents=True, exist_ok=True)
        (pages / f"{path.stem}.md").write_text(page, encoding="utf-8")
        (pages / path.name).write_bytes(path.read_bytes())
        for name, picture in pictures.items():
            stem = pages / path.stem / name
            if isinstance(picture, str):
                figures.write(picture, stem)
            else:
                stem.parent.mkdir(parents=True, exist_ok=True)
                stem.with_suffix(".png").write_bytes(picture)
