"""The page "The same name in other libraries": docs/names.md, from the tables of jaxact/_names.py.

    python -m benchmarks.names

It measures nothing: tests/compat/test_names.py compares the tables with the libraries.
"""

import inspect

import jaxact
from benchmarks.pages import DOCS
from jaxact._names import LIBRARIES, Library

PAGE = DOCS / "names.md"

#: The notions that libraries define or parametrise differently: in our words, and in theirs.
DIFFERENT = {
    "gelu": "exact (erf) or tanh form",
    "leaky_relu": "slope below 0",
    "prelu": "slope at first",
    "rrelu": "slopes",
    "hard_sigmoid": "kinks",
    "threshold": "threshold and value",
    "hard_shrink": "width",
}

_OTHER_INPUTS = ("x", "gate", "up", "key", "axis", "divisor")

INTRODUCTION = """\
# The same name in other libraries

"GELU" is the tanh form in `jax.nn` and the exact one in PyTorch; "leaky ReLU" has slope 0.01, 0.2
or 0.3. A library's prefix says whose name it is, and gives that library's meaning and defaults:

```pycon
>>> import jaxact
>>> jaxact.get("torch:gelu"), jaxact.get("jax:gelu") is jaxact.gelu
(jaxact.get('gelu', approximate=False), True)
>>> jaxact.get("keras:LeakyReLU"), jaxact.get("keras:leaky_relu")
(jaxact.get('leaky_relu', negative_slope=0.3), jaxact.get('leaky_relu', negative_slope=0.2))
>>> jaxact.get("keras:soft_shrink:threshold=1")  # parameters by the library's name, or by position
jaxact.get('soft_shrink', lambd=1)

```

What comes back is a function of jaxact, for a layer, `swap`, `gain` or `jaxact compare`, wherever
a name goes. Without a prefix a name is jaxact's own, which is that of `jax.nn`. A name that has
no counterpart raises an error that says why, and an unknown one an error that says what it may
be.

Written by `python -m benchmarks.names` from the tables that `get` reads. `pytest -m compat`
compares each name with the library: value and derivative, in float32 and bfloat16, and that no
name of the library is missing here.
"""

NOTES = """\
## What else differs

**Learned slopes.** A layer that learns a slope is `prelu` with the slope that the library starts
from: `Activation("torch:PReLU", features)` learns from 0.25, `Activation("keras:PReLU",
features)` from 0. A function that takes its slopes as an argument (`torch:prelu`, `onnx:PRelu`)
leaves them open, as `prelu` does: pass them, or let a layer or `swap` learn them.

**Random slopes.** `torch:RReLU` draws slopes and needs a key, or `deterministic=True` for their
mean; the function `torch:rrelu` has the mean slope, since its argument `training` is False by
default.

**Hard sigmoid.** `clip(x / 6 + 1/2, 0, 1)` in JAX, PyTorch and Keras 3, with kinks at ±3;
`clip(0.2 x + 1/2, 0, 1)` in ONNX and in Keras 2, with kinks at ±2.5: `hard_sigmoid(x,
bound=2.5)`.

**Derivative at a kink.** It is a choice, and libraries differ in two places. At 0, `leaky_relu`
and `prelu` have 1 here, in `jax.nn` and in Keras on JAX, and their slope for negative inputs in
PyTorch. At ±1, `hard_tanh` has 1 here, in `jax.nn` and in Keras on JAX, and 0 in PyTorch. All
other kinks agree: 0 for `relu`, at both ends of `relu6` and of `hard_sigmoid`, at the ends of the
shrinkages and of `threshold`; 0 at -3 and 1 at 3 for `hard_silu`; α at 0 for `elu`.

**Cut-offs.** PyTorch's `softplus` is the identity above its threshold of 20: in float32 and below
the same number, in float64 off by 2e-9. Its parameters `beta` and `threshold` are not available
here.

**Constants.** ONNX stores attributes in float32, so its `Selu` and `HardSigmoid` differ from the
exact constants by 3e-8 of their size. Hugging Face's `gelu_fast` has √(2/π) to ten digits: 4e-12.

**Options without a counterpart.** Keras' `relu(x, negative_slope, max_value, threshold)` and
ONNX's `Shrink` with a bias: use `leaky_relu`, `relu6`, `hard_tanh`, `threshold` and
`soft_shrink`.
"""


def document() -> str:
    """The page."""
    parts = [INTRODUCTION, _differences(), NOTES]
    parts += [_section(prefix, library) for prefix, library in LIBRARIES.items()]
    return "\n".join(parts)


def described(meaning: str) -> str:
    """A text that `get` takes, with the defaults of all parameters that it leaves out."""
    name, parameters = _parts(meaning)
    shown = [f", {parameter} {value}" for parameter, value in parameters.items()]
    return f"`{name}`{''.join(shown)}"


def _parts(meaning: str) -> tuple[str, dict[str, str]]:
    name = meaning.partition(":")[0]
    given = getattr(jaxact.get(meaning), "keywords", {})
    parameters = {}
    for p in inspect.signature(jaxact.ACTIVATIONS[name]).parameters.values():
        if p.name not in _OTHER_INPUTS:
            value = given.get(p.name, p.default)
            parameters[p.name] = "given" if value is p.empty else _number(value)
    return name, parameters


def _number(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def grouped(library: Library, function: str = "") -> dict[str, list[str]]:
    """The names of a library by what they mean: all, or those that mean one function."""
    groups: dict[str, list[str]] = {}
    for name, meaning in library.names.items():
        if function in ("", meaning.partition(":")[0]):
            groups.setdefault(meaning, []).append(name)
    return groups


def _differences() -> str:
    """The functions that are not the same in all libraries, and what each library's are."""
    titles = " | ".join(library.title for library in LIBRARIES.values())
    lines = [
        "## One name, several meanings",
        "",
        f"| | jaxact | {titles} |",
        "|---|---|" + "---|" * len(LIBRARIES),
    ]
    for function, what in DIFFERENT.items():
        cells = [f"{function}: {what}", _value(function)]
        for library in LIBRARIES.values():
            groups = grouped(library, function)
            cells.append("; ".join(f"{_value(m)} ({_code(n)})" for m, n in groups.items()))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _value(meaning: str) -> str:
    """A meaning's parameters, in a few words."""
    name, parameters = _parts(meaning)
    if name == "gelu":
        return "tanh" if parameters["approximate"] == "True" else "exact"
    if name == "hard_sigmoid":
        return f"±{parameters['bound']}"
    if name == "rrelu":
        drawn = "the mean of" if parameters["deterministic"] == "True" else "between"
        return f"{drawn} {parameters['lower']} and {parameters['upper']}"
    return " and ".join(dict.fromkeys(parameters.values()))


def _section(prefix: str, library: Library) -> str:
    """All names of a library."""
    lines = [f"## {library.title}", "", f"From {library.source}.", ""]
    lines += ["| `jaxact.get` of | is | parameters called otherwise |", "|---|---|---|"]
    for meaning, names in grouped(library).items():
        texts = ", ".join(f"`{prefix}:{name}`" for name in names)
        lines.append(f"| {texts} | {described(meaning)} | {renamed(library, names)} |")
    reasons: dict[str, list[str]] = {}
    for name, reason in library.left_out.items():
        reasons.setdefault(reason, []).append(name)
    lines += ["", "| no counterpart | why |", "|---|---|"]
    lines += [f"| {_code(names)} | {reason} |" for reason, names in reasons.items()]
    return "\n".join(lines) + "\n"


def renamed(library: Library, names: list[str]) -> str:
    pairs = dict.fromkeys(
        f"`{theirs}`: {ours}"
        for name in names
        for theirs, ours in library.parameters.get(name, {}).items()
    )
    return ", ".join(pairs)


def _code(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def main() -> None:
    """Write the page."""
    PAGE.write_text(document())


if __name__ == "__main__":
    main()
