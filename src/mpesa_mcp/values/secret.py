"""A secret that cannot print itself."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Secret:
    """Holds a secret value; only `reveal()` gives it, so that each place that does is easy to find."""

    _value: str

    def reveal(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return "Secret(…)"

    __str__ = __repr__
