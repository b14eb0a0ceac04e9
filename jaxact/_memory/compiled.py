"""The memory of a compiled function, as its target's compiler plans it."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxact._memory import targets
from jaxact._memory.cycles import cycles
from jaxact._text import size, table


@dataclasses.dataclass(frozen=True)
class Compiled:
    """What a compiler made of a function: bytes on each device.

    Attributes:
      target: what it was compiled for.
      temporaries: bytes that are alive at most at once, beyond arguments and outputs. What a
        gradient keeps for its backward pass is among them.
      arguments: bytes of the arguments.
      outputs: bytes of the outputs that do not reuse an argument's memory.
      code: bytes of the program; 0 where the compiler does not say.
      seconds: the TPU compiler's roofline: bytes moved over bandwidth, matrix products at their
        peak. It says nothing of elementwise arithmetic, nor of how often a loop runs. None on other
        targets, and where it is unknown for some operation.
      cycles: the TPU compiler's estimate of its schedule, all arithmetic included, on one core,
        with loops as often as they run. None on other targets, and where the program alone does not
        say: an instruction left open, an unknown number of steps, branches that differ. What has
        no estimate (collectives, sorts, hand-written kernels) counts nothing.
      text: the compiled program (HLO), with its fusions, layouts and collectives.
    """

    target: str
    temporaries: int
    arguments: int
    outputs: int
    code: int
    seconds: float | None
    cycles: int | None
    text: str = dataclasses.field(repr=False)

    def __str__(self) -> str:
        rows = [
            (name, size(getattr(self, name)))
            for name in ("temporaries", "arguments", "outputs", "code")
        ]
        if self.seconds is not None:
            rows.append(("roofline", f"{self.seconds * 1e6:.1f} µs"))
        if self.cycles is not None:
            rows.append(("estimated cycles", f"{self.cycles:,}"))
        return table((self.target, ""), rows)


def compiled(fn: Callable[..., Any], *args: Any, target: str = "cpu") -> Compiled:
    """Compile a function for a device that need not be there, and return what it will need.

    ``fn(*args)`` is compiled by the target's own compiler: libtpu for TPUs, XLA's CUDA compiler
    for GPUs (extra ``targets``), on any machine; nothing runs. On a machine without accelerators,
    set ``JAX_PLATFORMS=cpu`` first, or JAX looks for them.

    Args:
      fn: any JAX function; a gradient or a whole train step, for example. A jitted one keeps its
        donated arguments, static arguments and shardings.
      *args: its arguments: arrays, or ``jax.ShapeDtypeStruct`` for their shapes. For more than
        one device, give the latter a sharding over a mesh of `devices`.
      target: as in `devices`. The default is the CPU of this machine.

    Returns:
      The `Compiled` program's bytes, estimates and text.

    Raises:
      ImportError: the target's compiler is not installed.
      ValueError: no such target.

    Examples:
      >>> import jax, jax.numpy as jnp, jaxact
      >>> x = jax.ShapeDtypeStruct((1024, 1024), jnp.float32)
      >>> step = compiled(jax.grad(lambda x: jaxact.gelu(x).sum()), x)
      >>> step.arguments, step.outputs
      (4194304, 4194304)
    """
    device = targets.devices(target)[0]
    sharding = jax.sharding.SingleDeviceSharding(device)

    def described(x: Any) -> Any:
        if not isinstance(x, jax.Array | np.ndarray | jax.ShapeDtypeStruct):
            return x  # A Python number may be a static argument.
        given = getattr(x, "sharding", None) if isinstance(x, jax.ShapeDtypeStruct) else None
        weak = getattr(x, "weak_type", False)
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=given or sharding, weak_type=weak)

    jitted = fn if hasattr(fn, "lower") else jax.jit(fn)
    lowered = jitted.lower(*jax.tree.map(described, args))
    program = lowered.compile(compiler_options=targets.compiler_options(device))
    memory = program.memory_analysis()
    text = program.as_text() or ""
    # An operation without an estimate counts as -1.
    seconds = (program.cost_analysis() or {}).get("optimal_seconds", -1.0)
    return Compiled(
        target=target,
        temporaries=memory.temp_size_in_bytes,
        arguments=memory.argument_size_in_bytes,
        outputs=memory.output_size_in_bytes - memory.alias_size_in_bytes,
        code=memory.generated_code_size_in_bytes,
        seconds=seconds if device.platform == "tpu" and seconds > 0 else None,
        cycles=cycles(text),
        text=text,
    )
