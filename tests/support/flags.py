"""JAX's flags for what will be its default one day."""

import contextlib

import jax

#: What JAX 0.12 traces in another way with ``jax_<name>``. An older JAX has not all of them. In
#: JAX 0.12 itself scan3 has no reverse mode and no vmap, ignores ``reverse``, and loses what is
#: carried under jit: it is looked at where JAX computes with it.
FLAGS = [
    name
    for name in ("custom_jvp3", "custom_vjp3", "remat3", "scan3")
    if hasattr(jax.config, f"jax_{name}")
]


@contextlib.contextmanager
def flags(*names):
    """With these flags on, and no others."""
    before = {f"jax_{name}": getattr(jax.config, f"jax_{name}") for name in FLAGS}
    try:
        for name in FLAGS:
            jax.config.update(f"jax_{name}", name in names)
        yield
    finally:
        for name, value in before.items():
            jax.config.update(name, value)
