"""Recipes: from a YAML file and flags to checked dataclasses; no torch here."""

from snnkd.recipe.loader import read_recipe
from snnkd.recipe.overrides import FLAGS
from snnkd.recipe.resolve import Pipeline, resolve_execution, resolve_pipeline, resolve_stage
from snnkd.recipe.shipped import shipped_names
from snnkd.recipe.sweep import Task, Tasks, resolve_tasks
from snnkd.recipe.yaml_io import dump_yaml

__all__ = [
    "FLAGS",
    "Pipeline",
    "Task",
    "Tasks",
    "dump_yaml",
    "read_recipe",
    "resolve_execution",
    "resolve_pipeline",
    "resolve_stage",
    "resolve_tasks",
    "shipped_names",
]
