"""Notebooks as pages, and that the committed ones can be read as such."""

import base64
import io
import json
import re
from pathlib import Path

import pytest
from PIL import Image

from website import notebooks

ROOT = Path(__file__).parent.parent.parent
COMMITTED = sorted((ROOT / "notebooks").glob("*.ipynb"))
SVG = '<svg xmlns="http://www.w3.org/2000/svg"><text style="fill: #222222">x</text></svg>'


def markdown(*lines):
    return {"cell_type": "markdown", "metadata": {}, "source": "\n".join(lines)}


def code(source, *outputs):
    return {
        "cell_type": "code",
        "execution_count": 1,
        "metadata": {},
        "source": source.splitlines(keepends=True),
        "outputs": list(outputs),
    }


def data(**kinds):
    names = {"svg": "image/svg+xml", "png": "image/png", "md": "text/markdown"}
    content = {names.get(kind, f"text/{kind}"): text for kind, text in kinds.items()}
    return {"output_type": "display_data", "metadata": {}, "data": content}


def stream(text, name="stdout"):
    return {"output_type": "stream", "name": name, "text": text}


def png():
    content = io.BytesIO()
    Image.new("RGB", (2, 2)).save(content, "png")
    return base64.b64encode(content.getvalue()).decode()


@pytest.fixture
def folder(tmp_path):
    """A clone: with two notebooks, a page and a benchmark that can be linked to."""
    for name in ("notebooks/other.ipynb", "docs/page.md", "benchmarks/run.py"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("")
    return tmp_path


def convert(folder, *cells, title="# Title"):
    path = folder / "notebooks" / "this.ipynb"
    path.write_text(json.dumps({"cells": [markdown(title), *cells]}))
    return notebooks.convert(path, folder / "docs")


def test_code_and_what_it_printed(folder):
    page, pictures = convert(
        folder,
        code("x = 1\nprint(x)", stream("1"), stream("\n2\n", "stderr"), data(plain="'x'")),
        code("  "),
    )
    assert page == (
        "# Title\n\n"
        "A notebook: [`notebooks/this.ipynb`](this.ipynb), with the outputs that it has there.\n\n"
        "```python\nx = 1\nprint(x)\n```\n\n```text\n1\n2\n```\n\n```text\n'x'\n```\n"
    )
    assert pictures == {}


def test_backticks_in_code_do_not_end_it(folder):
    page, _ = convert(folder, code("text = '''\n```\n'''"))
    assert "````python\ntext = '''\n```\n'''\n````\n" in page


def test_of_a_line_that_was_written_anew_the_last_stays(folder):
    page, _ = convert(folder, code("run()", stream("10%\r50%\r100%\n\x1b[31mred\x1b[0m\r\n")))
    assert "```text\n100%\nred\n```" in page


def test_tables_are_tables(folder):
    page, _ = convert(folder, code("t", data(md="| a |\n|---|\n| 1 |", plain="<Markdown>")))
    assert page.endswith("```\n\n| a |\n|---|\n| 1 |\n")


def test_figures_in_two_themes(folder):
    output = data(svg=SVG, png=png(), plain="<Figure>")
    page, pictures = convert(folder, markdown("## What `x` is"), code("plot()", output))
    assert pictures == {"1": SVG}
    assert (
        "![What x is](this/1-light.svg#only-light)\n![What x is](this/1-dark.svg#only-dark)" in page
    )


def test_files(folder):
    convert(folder, code("a", data(svg=SVG)), code("b", data(png=png(), plain="<Figure>")))
    (folder / "notebooks" / "other.ipynb").unlink()
    notebooks.write(folder / "notebooks", folder / "docs")
    written = folder / "docs" / "notebooks"
    light, dark = [(written / "this" / f"1-{t}.svg").read_text() for t in ("light", "dark")]
    assert "#222222" in light and "#222222" not in dark
    Image.open(written / "this" / "2.png").verify()
    assert "![Title](this/2.png)" in (written / "this.md").read_text()
    # What the first line of the page links to.
    original = folder / "notebooks" / "this.ipynb"
    assert (written / "this.ipynb").read_bytes() == original.read_bytes()


@pytest.mark.parametrize(
    ("link", "on_the_site"),
    [
        ("[a](other.ipynb)", "[a](other.md)"),
        ("[a](other.ipynb#The-end)", "[a](other.md#the-end)"),
        ("[a](../docs/page.md#part)", "[a](../page.md#part)"),
        ("[a](https://arxiv.org/abs/1)", "[a](https://arxiv.org/abs/1)"),
        ("[a](#here)", "[a](#here)"),
        ("[the code](../benchmarks/run.py)", "the code (`benchmarks/run.py`)"),
        ("[`benchmarks/run.py`](../benchmarks/run.py)", "`benchmarks/run.py`"),
        ("```\n[a](other.ipynb)\n```", "```\n[a](other.ipynb)\n```"),
    ],
)
def test_links_become_those_of_the_site(folder, link, on_the_site):
    page, _ = convert(folder, markdown(link))
    assert page.endswith(f"\n\n{on_the_site}\n")


def test_what_notebooks_show_without_empty_lines(folder):
    page, _ = convert(
        folder, markdown("Text:", "- one", "- two", "", "a", "$$x$$", "b", "| c |", "|---|")
    )
    assert page.endswith("Text:\n\n- one\n- two\n\na\n\n$$x$$\n\nb\n\n| c |\n|---|\n")


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        (
            code("1/0", {"output_type": "error", "ename": "ZeroDivisionError", "evalue": "by 0"}),
            "this.ipynb: an error: ZeroDivisionError: by 0",
        ),
        (code("a", data(html="<b>")), "none of the kinds known: text/html"),
        (markdown("[a](nowhere.ipynb)"), r"there is no nowhere.ipynb, of \[a\]"),
        ({**markdown("![a](attachment:a)"), "attachments": {"a": {}}}, "cannot show an attachment"),
    ],
)
def test_what_a_page_cannot_show_is_an_error(folder, cell, message):
    with pytest.raises(ValueError, match=message):
        convert(folder, cell)


def test_a_notebook_has_a_title(folder):
    with pytest.raises(ValueError, match="the first line must be its title"):
        convert(folder, title="No title")


# The committed ones.

#: A folder of the machine on which it was run.
MACHINE = re.compile(r"(?<![\w.])/(?:home|root|tmp|work|Users|private|mnt)/\S*")


def complaints(notebook):
    """What should not be committed."""
    if notebook["metadata"].get("kernelspec", {}).get("name") != "python3":
        yield "its kernel is not python3"
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    counts = [cell["execution_count"] for cell in cells]
    if counts != list(range(1, len(cells) + 1)):
        yield f"its cells were not run in order, in a fresh kernel: {counts}"
    outputs = [output for cell in cells for output in cell["outputs"]]
    if not outputs:
        yield "it has no outputs"
    for output in outputs:
        if output["output_type"] == "error":
            yield f"an error: {output['ename']}"
        text = {k: v for k, v in output.get("data", {}).items() if k != "image/png"}
        for path in MACHINE.findall(json.dumps([text, output.get("text", "")])):
            yield f"a path of the machine: {path}"


def test_there_are_notebooks():
    assert len(COMMITTED) >= 2


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.stem)
def test_a_committed_notebook_is_clean(path):
    assert list(complaints(json.loads(path.read_text(encoding="utf-8")))) == []


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.stem)
def test_a_committed_notebook_can_be_a_page(path):
    page, _ = notebooks.convert(path, ROOT / "docs")
    assert page.startswith("# ")


def clean():
    cell = code("1", data(plain="1"))
    return {"metadata": {"kernelspec": {"name": "python3"}}, "cells": [cell]}


def broken(change):
    notebook = clean()
    change(notebook, notebook["cells"][0])
    return list(complaints(notebook))


def test_each_complaint_is_made():
    assert list(complaints(clean())) == []
    assert "kernel" in broken(lambda n, _: n["metadata"].clear())[0]
    assert "[2]" in broken(lambda _, cell: cell.update(execution_count=2))[0]
    assert "[None]" in broken(lambda _, cell: cell.update(execution_count=None))[0]
    assert "no outputs" in broken(lambda _, cell: cell.update(outputs=[]))[0]
    error = {"output_type": "error", "ename": "KeyError"}
    assert broken(lambda _, cell: cell.update(outputs=[error])) == ["an error: KeyError"]
    for text in ("/home/me/x.py:1", "in <a href='/tmp/b'>", "/root/c"):
        found = broken(lambda _, cell, text=text: cell.update(outputs=[stream(text)]))
        assert len(found) == 1 and "a path of the machine" in found[0]
    assert not broken(lambda _, cell: cell.update(outputs=[stream("w/home/x ./tmp/y")]))
