"""`snnkd teach`."""

from __future__ import annotations

import typer

from snnkd.cli import options as o
from snnkd.cli.places import check_stage, note_other_run
from snnkd.recipe import resolve_stage
from snnkd.recipe.sweep import sweep_notice
from snnkd.recipe.train_section import fitted_keys
from snnkd.schema.run import TeachRecipe

EXAMPLES = (
    "snnkd teach",
    "snnkd teach --data cifar100 --model resnet20 --epochs 200",
    "snnkd teach glyphs --seed 1 --max-time 3:50:00",
)


def teach(
    context: typer.Context,
    recipe: o.Recipe = "glyphs",
    data: o.Data = None,
    model: o.Model = None,
    epochs: o.Epochs = None,
    batch_size: o.BatchSize = None,
    lr: o.Lr = None,
    init: o.Init = None,
    seed: o.Seed = None,
    device: o.Device = None,
    settings: o.Set = None,
    code: o.Code = None,
    out: o.Out = None,
    fresh: o.Fresh = False,
    continue_anyway: o.ContinueAnyway = False,
    max_time: o.MaxTime = None,
    track: o.Track = None,
    as_json: o.Json = False,
) -> None:
    """Train an ANN teacher and print its run directory.

    Run it again after an interruption to continue; a finished run is not repeated.
    """
    o.permit(code, data, model, settings=settings)
    flags = o.stage_flags(context)
    resolved = resolve_stage(recipe, "teach", settings=settings or (), **flags)
    assert isinstance(resolved, TeachRecipe)
    notes = sweep_notice(recipe, resolved, "teach") + note_other_run(recipe, out)
    check_stage(resolved)
    with o.watch_signals(max_time) as stop:
        from snnkd import pipeline

        fitted = fitted_keys(recipe, resolved, settings or (), flags)
        done = pipeline.teach(resolved, o.make_context(stop, out, fresh, notes), fitted)
    o.echo_json(done.result) if as_json else o.echo(done.folder)
