from __future__ import annotations

import pytest

from worldflux.core.errors import ConfigurationError
from worldflux.testing import Check, CheckFailed, CheckSkipped, fixtures, run_checks
from worldflux.testing.runner import run, subjects

CAPABLE = 'id = "acme-world"\ncapabilities = ["reward_pred"]'


def passes(subject):
    """Nothing is wrong."""


def fails(subject):
    raise CheckFailed("it is wrong")


def a_check(function, *, level="static", requires=(), since="1.0"):
    return Check("check_toy", function, level, frozenset(requires), since)


@pytest.fixture
def acme(make_plugin_dist, worldflux_kernel):
    """Installs the plugin acme-world, with a passage of its manifest or code replaced."""

    def install(*, manifest=("", ""), head=("", ""), code=("", ""), **installed):
        accepted = fixtures.kernel_range(worldflux_kernel.version)
        text = fixtures.MANIFEST.format(name="acme-world", id="acme-world", range=accepted)
        source = fixtures.CODE.format(id="acme-world")
        text = text.replace(*manifest, 1).replace(*head, 1)
        make_plugin_dist("acme-world", manifest=text, code=source.replace(*code, 1), **installed)
        return subjects("acme-world")[0]

    return install


def test_a_check_that_raises_nothing_has_passed(acme):
    assert run(a_check(passes), acme()).outcome == "passed"


def test_a_failed_check_says_what_is_wrong(acme):
    result = run(a_check(fails), acme())
    assert (result.outcome, result.message) == ("failed", "it is wrong")
    assert isinstance(result.error, CheckFailed)


@pytest.mark.parametrize("error", [KeyError("oh"), SystemExit(3)], ids=["an exception", "an exit"])
def test_whatever_a_check_raises_is_a_failure_that_names_it(acme, error):
    def raises(subject):
        raise error

    result = run(a_check(raises), acme())
    assert result.outcome == "failed"
    assert result.message.startswith(type(error).__name__)


def test_a_check_may_say_that_it_cannot_judge(acme):
    def gives_up(subject):
        raise CheckSkipped("no eyes")

    result = run(a_check(gives_up), acme())
    assert (result.outcome, result.message) == ("skipped", "no eyes")


def test_a_failure_that_is_expected_is_none_and_keeps_its_reason(acme):
    result = run(a_check(fails), acme(), expected="issue 12")
    assert result.outcome == "expected"
    assert "issue 12" in result.message
    assert "it is wrong" in result.message


def test_a_failure_that_is_expected_and_stays_away_is_one(acme):
    result = run(a_check(passes), acme(), expected="issue 12")
    assert result.outcome == "failed"
    assert "expected to fail because issue 12, but passes" in result.message


def test_a_rule_about_what_is_not_declared_is_skipped(acme):
    result = run(a_check(fails, level="full", requires=("policy",)), acme(manifest=('id = "acme-world"', CAPABLE)))
    assert (result.outcome, result.message) == ("skipped", "not declared: policy")


def test_a_rule_about_what_is_declared_is_kept(acme):
    subject = acme(manifest=('id = "acme-world"', CAPABLE))
    assert run(a_check(fails, level="full", requires=("reward_pred",)), subject).outcome == "failed"


def test_a_rule_newer_than_the_plugin_is_skipped(acme):
    result = run(a_check(fails, since="1.10"), acme())
    assert (result.outcome, result.message) == ("skipped", "a rule since API 1.10, the plugin is written for 1.0")


def test_what_is_rejected_is_looked_at_but_not_run(acme):
    subject = acme(manifest=('"1.0"', '"1.7"'))
    assert run(a_check(passes), subject).outcome == "passed"
    for level in ("imports", "full"):
        result = run(a_check(fails, level=level), subject)
        assert result.outcome == "skipped"
        assert "needs plugin API 1.7" in result.message


def test_a_family_that_does_not_start_is_built_by_no_check(acme):
    result = run(a_check(fails, level="full"), acme(code=("class Family", "import nowhere_at_all\nclass Family")))
    assert result.outcome == "skipped"
    assert "No module named 'nowhere_at_all'" in result.message


def test_a_plugin_without_families_is_held_to_what_can_be_seen_of_it(acme):
    head = fixtures.MANIFEST.partition("[[models]]")[2]
    component = '[[components]]\nid = "acme.zero"\nslot = "action_conditioner"\n'
    subject = acme(
        manifest=("[[models]]" + head.format(id="acme-world"), component),
        head=('["models"]', '["components"]'),
        entry_points={"worldflux.components": {"acme.zero": "acme_world.plugin:Family"}},
    )
    assert subject.plugin.state == "indexed"
    assert run(a_check(passes), subject).outcome == "passed"
    assert run(a_check(fails, level="full"), subject).message == "acme-world brings no family"


def test_all_means_every_family_of_every_plugin(make_plugin_dist, worldflux_kernel):
    make_plugin_dist("acme-world")
    make_plugin_dist("bold-world")
    assert {subject.name for subject in subjects("all")} == {"acme-world", "bold-world"}


def test_what_the_user_blocks_is_checked_only_when_it_is_named(make_plugin_dist, worldflux_kernel, monkeypatch):
    make_plugin_dist("acme-world")
    make_plugin_dist("bold-world")
    monkeypatch.setenv("WORLDFLUX_DISABLED_PLUGINS", "bold-world")
    worldflux_kernel.rediscover()
    assert {subject.name for subject in subjects("all")} == {"acme-world"}
    outcomes = {result.check: result.outcome for result in run_checks("bold-world", level="static")}
    assert outcomes["check_is_accepted"] == "failed"


def test_a_family_claimed_twice_is_looked_at_in_both_plugins(make_plugin_dist, worldflux_kernel):
    accepted = fixtures.kernel_range(worldflux_kernel.version)
    make_plugin_dist("acme-world")
    manifest = fixtures.MANIFEST.format(name="bold-world", id="acme-world", range=accepted)
    points = {"worldflux.models": {"acme-world": "bold_world.plugin"}}
    make_plugin_dist("bold-world", manifest=manifest, entry_points=points)
    outcomes = {
        name: {result.check: result.outcome for result in run_checks(name, level="static")}
        for name in ("acme-world", "bold-world")
    }
    assert outcomes["acme-world"]["check_is_accepted"] == "passed"
    assert outcomes["bold-world"]["check_is_accepted"] == "failed"


def test_checks_up_to_a_level_are_run_in_order(acme):
    acme()
    names = [result.check for result in run_checks("acme-world", level="static")]
    assert names[0] == "check_manifest_is_valid"
    assert not [name for name in names if "start" in name]


def test_results_can_be_written_as_json(acme):
    acme()
    (first, *_) = run_checks("acme-world", level="static")
    assert set(first.to_dict()) == {"check", "outcome", "message", "seconds"}


@pytest.mark.parametrize(
    ("arguments", "near"),
    [
        ({"name": "nowhere"}, "no plugin provides the family 'nowhere'"),
        ({"name": "acme-world", "level": "fast"}, r"unknown level 'fast', expected one of \['static'"),
    ],
)
def test_what_does_not_exist_is_named(acme, arguments, near):
    acme()
    with pytest.raises(ConfigurationError, match=near):
        run_checks(**{"level": "static", **arguments})


@pytest.mark.parametrize(
    ("expected", "near"),
    [
        ({"check_manifest_is_vlid": "issue 12"}, "is no check. Did you mean 'check_manifest_is_valid'"),
        ({"check_manifest_is_valid": " "}, "needs a reason"),
    ],
)
def test_an_expected_failure_is_a_check_and_a_reason(acme, expected, near):
    pytest.importorskip("torch")
    acme()
    with pytest.raises(ConfigurationError, match=near):
        run_checks("acme-world", level="static", expected_failures=expected)


def test_a_cause_that_many_checks_share_is_said_once(acme):
    from worldflux.cli.plugin_check import _table
    from worldflux.testing.results import CheckResult

    cause = "TypeError: encoder of nothing\nand where"
    results = [CheckResult("check_first", "failed", "another"), CheckResult("check_builds", "failed", cause)]
    results += [CheckResult(f"check_{i}", "failed", cause) for i in range(30)] + [CheckResult("check_last", "passed")]
    text = _table(results)
    assert text.count("encoder of nothing") == text.count("and where") == 1
    assert "30 more failed, for the same reason as check_builds: check_0, check_1," in text
    assert "check_first" in text and "check_last" in text


def test_in_pytest_a_cause_is_shown_where_it_is_first_met(acme):
    from worldflux.testing.conformance import BoundCheck

    def breaks(subject):
        raise TypeError("encoder of nothing")

    subject = acme()
    first, second = (BoundCheck(Check(name, breaks, "static", frozenset(), "1.0"), subject) for name in ("one", "two"))
    with pytest.raises(TypeError, match="encoder of nothing"):
        first()
    with pytest.raises(pytest.fail.Exception, match="the same as one") as told:
        second()
    assert "encoder" not in str(told.value)
