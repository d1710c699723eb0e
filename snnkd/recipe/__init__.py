"""The recipe: one YAML file that fixes everything about a run. Dataclasses are the schema; no torch here."""

from snnkd.recipe.catalogue import DATA, MODELS
from snnkd.recipe.extends import read_recipe
from snnkd.recipe.methods import DIVERGENCES, LOSSES
from snnkd.recipe.resolve import Flags, Pipeline, resolve_pipeline, resolve_stage
from snnkd.recipe.schema import DistillRecipe, StageRecipe, TeachRecipe
from snnkd.recipe.shipped import shipped_names
from snnkd.recipe.sweep import Task, Tasks, resolve_tasks
from snnkd.recipe.text import dump_yaml, to_plain

__all__ = [
    "DATA",
    "DIVERGENCES",
    "LOSSES",
    "MODELS",
    "DistillRecipe",
    "Flags",
    "Pipeline",
    "StageRecipe",
    "Task",
    "Tasks",
    "TeachRecipe",
    "dump_yaml",
    "read_recipe",
    "resolve_pipeline",
    "resolve_stage",
    "resolve_tasks",
    "shipped_names",
    "to_plain",
]
