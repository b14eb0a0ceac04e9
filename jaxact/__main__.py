"""``python -m jaxact`` is the command ``jaxact``."""

from jaxact.cli import main

if __name__ == "__main__":
    main()
