"""An index into a tensor, as safetensors reads it for all frameworks but PyTorch."""

from __future__ import annotations

import math
import operator
from typing import Any, NamedTuple, Optional, Union

from ._errors import SafetensorError


class Taken(NamedTuple):
    """What is taken of one dimension: positions start, start + step, ... before stop."""

    start: int
    stop: int
    step: int
    kept: bool  # False: one position, whose dimension goes away
    size: int  # of the whole dimension

    @property
    def number(self) -> int:
        return len(range(self.start, self.stop, self.step))


class Index(NamedTuple):
    """What is taken of every dimension."""

    taken: list[Taken]

    def shape(self) -> list[int]:
        return [one.number for one in self.taken if one.kept]

    def items(self) -> tuple[Union[int, slice], ...]:
        """For numpy."""
        return tuple(
            slice(one.start, one.stop, one.step) if one.kept else one.start for one in self.taken
        )

    def run(self) -> Optional[tuple[int, int]]:
        """(first, count) of the elements, if they follow each other in C order; otherwise None.

        That is so if single positions come first, then one range, then whole dimensions.
        """
        counts = [one.number for one in self.taken]
        if 0 in counts:
            return 0, 0
        begin, at = 0, 0
        for at, one in enumerate(self.taken):
            begin += one.start * math.prod(other.size for other in self.taken[at + 1 :])
            if one.number != 1:
                break
        else:
            return begin, 1
        if self.taken[at].step != 1 or any(one.number != one.size for one in self.taken[at + 1 :]):
            return None
        return begin, math.prod(counts)


def read_index(index: Any, shape: list[int]) -> Index:
    """What ``index`` takes of a tensor of this shape.

    Raises:
        SafetensorError: the index does not fit the shape, or is none that safetensors takes.
    """
    items = _expand(_to_items(index), len(shape))
    taken = [_take(item, at, size) for at, (item, size) in enumerate(zip(items, shape))]
    if len(items) > len(shape):
        raise _misfit(items, shape, "more slicing indexes than dimensions in tensor")
    for at, one in enumerate(taken):
        if one.kept and one.start == one.stop == one.size == 0:
            continue  # nothing of an empty dimension
        if one.start >= one.size or one.stop > one.size:
            asked = one.start if one.start >= one.size else one.stop - 1
            raise _misfit(
                items,
                shape,
                f"index {asked} out of bounds for tensor dimension #{at} of size {one.size}",
            )
    taken += [Taken(0, size, 1, True, size) for size in shape[len(items) :]]
    return Index(taken)


def _to_items(index: Any) -> list[Any]:
    if isinstance(index, list):
        if index:
            raise SafetensorError("Non empty lists are not implemented")
        return [slice(0, 0)]
    return list(index) if isinstance(index, tuple) else [index]


def _expand(items: list[Any], rank: int) -> list[Any]:
    """The items with whole dimensions in place of an ellipsis."""
    places = [at for at, item in enumerate(items) if item is Ellipsis]
    if not places:
        return items
    if len(places) > 1:
        raise SafetensorError("an index may have only one ellipsis (...)")
    at = places[0]
    return items[:at] + [slice(None)] * max(rank - len(items) + 1, 0) + items[at + 1 :]


def _take(item: Any, at: int, size: int) -> Taken:
    if isinstance(item, slice):
        step = 1 if item.step is None else operator.index(item.step)
        if step <= 0:
            raise SafetensorError(f"the step of a slice must be positive, found {step}")
        start, stop = _bound(item.start, 0, size), _bound(item.stop, size, size)
        return Taken(start, max(start, stop), step, True, size)
    try:
        position = operator.index(item)
    except TypeError:
        raise SafetensorError(
            f"the index at position {at} must be an integer, a slice or an ellipsis, "
            f"not {type(item).__name__}"
        ) from None
    if position < -size:
        raise SafetensorError(f"Invalid index {position} for dimension {at} of size {size}")
    position += size if position < 0 else 0
    return Taken(position, position + 1, 1, False, size)


def _bound(bound: Any, default: int, size: int) -> int:
    """One end of a slice; negative ones count from the end, as in Python."""
    if bound is None:
        return default
    value = operator.index(bound)
    return max(value + size, 0) if value < 0 else value


def _misfit(items: list[Any], shape: list[int], why: str) -> SafetensorError:
    asked = ", ".join(_text(item, size) for item, size in zip(items, [*shape, *[0] * len(items)]))
    return SafetensorError(f"Error during slicing [{asked}] with shape {shape}: {why}")


def _text(item: Any, size: int) -> str:
    if not isinstance(item, slice):
        value = operator.index(item)
        return str(value + size if value < 0 else value)
    ends = ["" if bound is None else str(bound) for bound in (item.start, item.stop)]
    return ":".join(ends + ([] if item.step in (None, 1) else [str(item.step)]))
