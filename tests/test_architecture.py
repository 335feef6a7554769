"""What import-linter cannot see."""

from __future__ import annotations

import tomllib
from pathlib import Path

from django.apps import apps
from django.conf import settings
from django.db.models import ForeignObject

ROOT = Path(settings.BASE_DIR)
TOOLS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
# From the top layer down.
LAYERS = next(contract for contract in TOOLS["importlinter"]["contracts"] if contract["id"] == "layers")["layers"]


def layer_of(module: str) -> int | None:
    name = module.partition(".")[0]
    return LAYERS.index(name) if name in LAYERS else None


def test_no_foreign_key_points_to_a_higher_layer():
    upward = []
    for model in apps.get_models():
        here = layer_of(model.__module__)
        for field in model._meta.get_fields(include_hidden=True):
            if not isinstance(field, ForeignObject) or here is None:
                continue
            there = layer_of(field.related_model.__module__)
            if there is not None and there < here:
                upward.append(f"{model._meta.label}.{field.name} -> {field.related_model._meta.label}")

    assert upward == []


def test_every_app_of_ours_is_a_layer():
    ours = {path.parent.name for path in ROOT.glob("*/apps.py")} | {path.parent.name for path in ROOT.glob("*/models*")}

    assert ours == set(LAYERS) == set(TOOLS["importlinter"]["root_packages"])


def test_every_policy_and_state_module_is_held_to_be_pure():
    pure = next(contract for contract in TOOLS["importlinter"]["contracts"] if contract["id"] == "pure")
    ours = {f"{path.parent.name}.states" for path in ROOT.glob("*/states.py")}
    ours |= {f"{path.parent.name}.policies" for path in ROOT.glob("*/policies")}

    assert ours <= set(pure["source_modules"])
