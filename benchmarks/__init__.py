"""Measurements, and the scripts that produce the package's tables. Run as ``python -m``."""
