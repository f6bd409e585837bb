"""What a build can be told is declared once; command, job orders and form go by it."""

from __future__ import annotations

import dataclasses
import shlex
import typing
from pathlib import Path

import pytest
import typer.main

from csp_engine.cli import app
from csp_engine.errors import InputError
from csp_engine.jobs import BuildOrder
from csp_engine.jobs.options import BY_FIELD, OPTIONS
from csp_engine.pipeline.recipe import Recipe, changed

COMMAND = typer.main.get_command(app).commands["build"]
PARAMETERS = {parameter.name: parameter for parameter in COMMAND.params}
FIELDS = {field.name: field for field in dataclasses.fields(BuildOrder)}
HINTS = typing.get_type_hints(BuildOrder)


def test_the_command_takes_what_is_declared_and_nothing_else():
    taken = [name for name, option in OPTIONS.items() if not option.parameter]
    assert [name for name in PARAMETERS if name not in ("as_json", "help")] == taken
    for name in taken:
        option, parameter = OPTIONS[name], PARAMETERS[name]
        assert parameter.help == option.help
        assert tuple(parameter.opts) == (option.spelled or (name,))
        assert parameter.required == option.is_needed


def test_every_field_of_an_order_is_an_option():
    assert set(FIELDS) == set(BY_FIELD)
    for name, option in BY_FIELD.items():
        kinds = {int: int | None, float: float | None}
        kind = tuple[str, ...] if option.is_many else kinds.get(option.kind, str)
        assert HINTS[name] == kind, name


@pytest.mark.parametrize("name", BY_FIELD)
def test_what_an_order_says_is_what_the_command_hears(name):
    option = BY_FIELD[name]
    given = {"images": "i", "model": "m", "layers": ("a",), "encoder": "e", "out": "o.csp"}
    value = {
        int: 7, float: 0.25, str: "said", Path: "some/place"
    }[option.kind]  # fmt: skip
    given[name] = (value, "~/other") if option.is_many else value
    heard = COMMAND.make_context("build", BuildOrder(**given).arguments()[1:]).params
    if option.parameter:
        assert heard["set_"] == [f"{option.parameter}=0.25"]
        return
    own = heard[option.name]
    other = str(Path.home() / "other") if option.may_be_path else "~/other"
    assert own == ([value, other] if option.is_many else option.kind(value))


def test_what_is_left_out_of_an_order_is_what_the_command_takes_by_itself():
    order = BuildOrder(images="i", model="m", layers=("a",), encoder="e", out="o.csp")
    words = "build i --model m --layer a --encoder e --out o.csp"
    assert shlex.join(order.arguments()) == words
    heard = COMMAND.make_context("build", order.arguments()[1:]).params
    for name, option in OPTIONS.items():
        if not option.is_needed and not option.parameter:
            default = list(option.default) if option.is_many and option.default else option.default
            assert (heard[name] or None) == (default or None), name
    said = dataclasses.replace(order, batch_size=32, device="cpu", influence_images=512)
    assert said.arguments() == order.arguments()


def test_recipe_parameters_among_the_options_have_their_bounds():
    for option in OPTIONS.values():
        if option.parameter:
            assert option.most is not None
            for bound in (float(option.least or 0), float(option.most)):
                assert getattr(Recipe(**{option.parameter: bound}), option.parameter) == bound
            with pytest.raises(InputError, match=option.parameter):
                Recipe(**{option.parameter: option.most + 0.5})


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("limit", 0, "limit is 0; it must be at least 1"),
        ("batch_size", 0, "batch_size is 0; it must be at least 1"),
        ("influence_images", -1, "influence_images is -1; it must be at least 0"),
        ("pooling", "median", "--pooling is 'median'; choose mean"),
    ],
)
def test_a_value_out_of_bounds_is_told_beside_its_field(tmp_path, field, value, sentence):
    assert sentence in BuildOrder(**{field: value}).problems(tmp_path)[field]


def test_the_form_can_say_something_of_every_field():
    for name, option in BY_FIELD.items():
        assert option.label, name
        assert option.help.endswith("."), name


def test_a_seed_below_zero_is_refused_before_anything_is_drawn() -> None:
    with pytest.raises(InputError, match="seed is -1; it must be at least 0"):
        changed(Recipe(), {"seed": "-1"})
    assert changed(Recipe(), {"seed": "0"}).seed == 0
