"""Writes what the documentation shows and nobody types: ``python -m website``.

A page for each function, the notebooks as Markdown, and all figures, light and dark. They go into
folders of ``docs/`` that git ignores; ``mkdocs build`` makes the site of Markdown alone, without a
hook, so that another generator can.
"""
