"""Work that is divided: the i-th of N parts of a list, and the parts' results in the list's order again."""
from dataclasses import dataclass
from itertools import zip_longest
from typing import Iterable, Sequence, TypeVar

Item = TypeVar("Item")
_NOTHING = object()


@dataclass(frozen=True)
class Part:
    """Part `number`, 1-based, of `count`; written 2/8.

    It takes every count-th item of a list, whatever is done already, so all parts together take each item exactly once.
    """
    number: int = 1
    count: int = 1

    def take(self, items: Sequence[Item]) -> Sequence[Item]:
        """This part's items. items: in an order that is the same for all parts."""
        return items[self.number - 1::self.count]

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"


WHOLE = Part()


def interleave(parts: Iterable[Iterable[Item]]) -> list[Item]:
    """The items of all parts, in the order of the list that they were taken from."""
    rows = zip_longest(*parts, fillvalue=_NOTHING)
    return [item for row in rows for item in row if item is not _NOTHING]  # type: ignore[misc]
