"""Classes matched by name: their numbers change when a folder is renamed or reordered."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch

from snnkd.catalog.data import class_names_of
from snnkd.console import Console
from snnkd.data.imageset import ImageSet
from snnkd.data.split import Split
from snnkd.errors import FileError


def match_classes(data: ImageSet, config: Mapping[str, Any], owner: str, console: Console) -> ImageSet:
    """`data` with its labels numbered as the outputs of the network `owner`, whose config.json is `config`.

    Where one side has no names, the published ones of its data set count if they are those of the other
    side; else classes are matched by number, with a warning. Raises FileError when the names differ.
    """
    own, names = data.class_names, config.get("class_names")
    if names is None and own is None:
        return data
    if names is None or own is None:
        of_data = {"data": {"name": data.name}, "classes": data.classes}
        published = class_names_of(config if names is None else of_data) or ()
        if {*published} != {*(names or own or ())}:
            nameless, other = (owner, data.name) if names is None else (data.name, owner)
            console.log(f"warning: {nameless} has no class names; matched with {other} by number")
            return data
        own, names = own or tuple(published), names or published
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
