"""The subcommands of ``jaxact``: each a function of its name, in a module of its name."""

#: What the help of all says about each: the first line of its docstring.
SUMMARIES = {
    "compare": "Which activation does my problem want, and is the difference real?",
    "probe": "Is my network dying?",
}


def version() -> str:
    """What ``jaxact --version`` prints."""
    import importlib.metadata  # As long to import as typer.

    return f"jaxact {importlib.metadata.version('jaxact')}"
