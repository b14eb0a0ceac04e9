"""What a backward pass keeps, and how much memory a compiled program takes, on any target."""

from jaxact._memory.compiled import Compiled as Compiled, compiled as compiled
from jaxact._memory.residuals import (
    Residual as Residual,
    Residuals as Residuals,
    residuals as residuals,
)
from jaxact._memory.targets import devices as devices
