"""The front door names an argument of another kind."""

import pytest

pytest.importorskip("torch")

import worldflux
from worldflux.core.errors import ConfigurationError


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: worldflux.create_world_model(3), "model is 3, expected the name of a preset such as 'dreamer:ci', or"),
        (lambda: worldflux.create_world_model(None), "model is None, expected the name of a preset"),
        (
            lambda: worldflux.create_world_model("toy:ci", action_spec="continuous"),
            "action_spec is 'continuous', exp",
        ),
        (lambda: worldflux.create_world_model("toy:ci", action_spec=3), "action_spec is 3, expected an ActionSpec"),
        (
            lambda: worldflux.create_world_model("toy:ci", component_overrides=["x"]),
            "component_overrides is ['x']",
        ),
        (
            lambda: worldflux.create_world_model("toy:ci", component_overrides="x"),
            "component_overrides is 'x'",
        ),
        (lambda: worldflux.create_world_model("toy:ci", backend=3), "backend is 3, expected the id of a backend"),
        (lambda: worldflux.create_world_model("toy:ci", device=None), "device None is not a torch device"),
        (lambda: worldflux.get_config(None), "model is None, expected the name of a preset"),
        (lambda: worldflux.get_model_info(None), "model is None, expected the name of a preset"),
        (lambda: worldflux.list_models(surface=1), "surface is 1, expected one of ['supported', 'public', 'all']"),
        (lambda: worldflux.list_models(maturity=1), "maturity is 1, expected one of ['reference', 'experimental', "),
        (lambda: worldflux.list_models(maturity=""), "Unsupported maturity ''"),
        (lambda: worldflux.import_weights(None, importer=None), "importer is None, expected the id of an importer"),
    ],
)
def test_an_argument_of_another_kind_is_named_with_what_was_expected(toy, call, says):
    with pytest.raises(ConfigurationError) as raised:
        call()
    assert says in str(raised.value)


def test_no_surface_is_the_usual_one(toy):
    assert worldflux.list_models(surface=None) == worldflux.list_models() == ["toy:ci", "toyv2:size12"]
