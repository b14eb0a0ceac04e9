"""Tables in Markdown, written and read."""

from benchmarks.pages import DOCS, markdown_table, read_tables


def test_what_is_written_is_read():
    rows = [["gelu", "1.28"], ["jax.checkpoint(policy=dots_saveable)", ""]]
    page = ["# One", "", *markdown_table(["block", "v5e, arrays"], rows), "", "Text.", "## Two"]
    assert read_tables("\n".join(page)) == {
        "One": [{"block": block, "v5e, arrays": arrays} for block, arrays in rows]
    }


def test_tables_of_a_heading_and_backticks():
    first, second = (markdown_table(["a"], [[cell]]) for cell in ("1", "`f(x)`"))
    assert read_tables("\n".join(["## H", *first, "", *second])) == {"H": [{"a": "f(x)"}]}
    assert read_tables("nothing") == {}
    assert read_tables("|a|  \n|---|\n|1| ") == {"": [{"a": "1"}]}  # Spaces at the end.


def test_the_page_of_memory():
    """What notebooks/memory.ipynb looks for."""
    tables = read_tables((DOCS / "memory.md").read_text(encoding="utf-8"))
    scanned = tables["16 layers of x + act(x @ w1) @ w2, scan, v5e bfloat16"]
    assert {"function", "jax.nn", "jaxact", "jaxact.mlp"} <= set(scanned[0])
    assert "gelu" in {row["function"] for row in scanned}
    dial = tables["16 layers of x + gelu(x @ w1) @ w2, scan"]
    assert "jax.checkpoint" in {row["block"] for row in dial}
