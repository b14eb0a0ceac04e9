"""How many programs XLA compiles."""

import contextlib
from collections.abc import Iterator

import jax


@contextlib.contextmanager
def no_compilation() -> Iterator[None]:
    """Fails if anything is compiled inside."""
    compiled: list[str] = []

    def listen(event: str, _: float, **details: object) -> None:
        if event.endswith("backend_compile_duration"):
            compiled.append(str(details.get("fun_name", event)))

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    assert not compiled, f"compiled: {', '.join(compiled)}"
