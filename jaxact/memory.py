"""What a backward pass keeps, and how much memory a compiled program takes, on any target.

Import it as ``import jaxact.memory`` or ``from jaxact import memory``.
"""

from jaxact._memory.compiled import Compiled as Compiled
from jaxact._memory.compiled import compiled as compiled
from jaxact._memory.residuals import Residual as Residual
from jaxact._memory.residuals import Residuals as Residuals
from jaxact._memory.residuals import residuals as residuals
from jaxact._memory.targets import devices as devices
