"""Classes matched by name: their numbers change when a folder is renamed or reordered."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch

from snnkd.console import Console
from snnkd.data.imageset import ImageSet
from snnkd.data.split import Split
from snnkd.errors import FileError


def match_classes(data: ImageSet, names: Sequence[str] | None, owner: str, console: Console) -> ImageSet:
    """`data` with its labels numbered in the order of `names`, the class names of the network `owner`.

    Without names on one side classes are matched by number, with a warning. Raises FileError when the names
    differ.
    """
    own = data.class_names
    if names is None or own is None:
        if names is not own:
            nameless, other = (owner, data.name) if names is None else (data.name, owner)
            console.log(f"warning: {nameless} has no class names; matched with {other} by number")
        return data
    if tuple(names) == own:
        return data
    additional = sorted(set(own) - set(names))
    if additional:
        absent = sorted(set(names) - set(own))
        raise FileError(
            f"{data.name}: class {additional[0]!r} is not in {owner}, which has {absent[0]!r}; rename it"
        )
    console.log(f"classes of {data.name} are in another order than in {owner}: matched by name")
    number = torch.tensor([list(names).index(name) for name in own])

    def renumber(split: Split) -> Split:
        return dataclasses.replace(split, labels=number[split.labels])

    val = None if data.val is None else renumber(data.val)
    train, test = renumber(data.train), renumber(data.test)
    return dataclasses.replace(data, class_names=tuple(names), train=train, test=test, val=val)
