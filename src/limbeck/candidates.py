"""In which ways a bundle can be made: what stores its matrices, and what runs its graph."""

from dataclasses import dataclass

from limbeck.backends import BACKENDS, USUAL, is_installed, not_installed
from limbeck.errors import RecipeError


@dataclass(frozen=True, slots=True)
class Candidate:
    """A way to store a graph and to run it.

    Args:
        backend: A key of `BACKENDS`.
        quantization: "dynamic" or "static", of activations in 8 bits; "none", in 32 bits.
    """

    backend: str
    quantization: str

    def __str__(self) -> str:
        return f"{self.backend}, {self.quantization}"


_IN_8_BITS = (
    Candidate(USUAL, "dynamic"),
    Candidate(USUAL, "static"),
    Candidate("openvino", "static"),
)
"""What is worth trying, the usual one of each backend first: OpenVINO widens dynamic graphs."""


def candidates(
    *, int8: bool = True, backend: str = USUAL, quantization: str = "auto"
) -> tuple[Candidate, ...]:
    """Give what an export tries.

    Args:
        int8: Whether 8 bits are wanted.
        backend: A key of `BACKENDS`; "auto": all that are installed.
        quantization: Of 8 bits: "dynamic" or "static"; "auto": the usual one of the backend, or
            where that is "auto" too, all.

    Raises:
        RecipeError: The backend is not installed, or there is no such candidate.
    """
    fit = _IN_8_BITS if int8 else tuple(Candidate(one, "none") for one in BACKENDS)
    if backend != "auto":
        fit = tuple(one for one in fit if one.backend == backend)
    if int8 and quantization != "auto":
        fit = tuple(one for one in fit if one.quantization == quantization)
    if not fit:
        raise RecipeError(
            "no such way to make a bundle",
            found=f"backend {backend}, quantization {quantization}",
            expected=f"one of: {'; '.join(map(str, _IN_8_BITS))}",
        )
    there = tuple(one for one in fit if is_installed(one.backend))
    if not there:
        raise not_installed(fit[0].backend)
    return there if backend == "auto" else there[:1]
