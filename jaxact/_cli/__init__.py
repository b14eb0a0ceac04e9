"""The subcommands of ``jaxact``."""
