"""Negotiation is a table: what the plugin declares, what the kernel is, the exact verdict."""

from __future__ import annotations

import pytest

from worldflux.plugins.versions import api_mismatch, range_mismatch
from worldflux.strangers.distributions import canonical, requires_unmet

API = {1: 2, 2: 0}


@pytest.mark.parametrize(
    ("declared", "verdict"),
    [
        ("1.0", None),
        ("1.2", None),
        ("2.0", None),
        ("1.3", "needs plugin API 1.3, this kernel (worldflux-core 0.2.0) has 1.2; update worldflux-core"),
        ("2.1", "needs plugin API 2.1, this kernel (worldflux-core 0.2.0) has 2.0; update worldflux-core"),
        ("3.0", "needs plugin API 3.0, this kernel (worldflux-core 0.2.0) has 2.0; update worldflux-core"),
        (
            "0.9",
            "was written for plugin API 0.9, this kernel (worldflux-core 0.2.0) has 2.0; update the plugin",
        ),
    ],
)
def test_a_minor_adds_and_a_major_breaks(declared, verdict):
    assert api_mismatch(declared, "0.2.0", API) == verdict


@pytest.mark.parametrize(
    ("declared", "kernel", "move"),
    [
        ("", "0.1.0", None),
        (">=0.1,<0.2", "0.1.0", None),
        (">=0.1,<0.2", "0.1.7", None),
        (">=0.4", "0.4.0.dev3", None),  # a development version counts as the release it will become
        (">=0.3,<0.5", "0.4.1rc1", None),
        (">=0.4,<0.5", "0.4.0+local.1", None),
        ("~=0.4.2", "0.4.9", None),
        ("==0.1.*", "0.1.3", None),
        ("===0.1.0", "0.1.0", None),
        (">=0.3,<0.5", "0.2.9", "update worldflux-core"),
        (">0.3", "0.3.0", "update the plugin"),
        ("~=0.4.2", "0.3.0", "update worldflux-core"),
        ("==0.2.*", "0.1.3", "update worldflux-core"),
        (">=0.1,<0.2", "0.2.0", "update the plugin"),
        (">=0.1,<0.2", "0.2.0rc1", "update the plugin"),
        ("!=0.1.0", "0.1.0", "update the plugin"),
        ("<0.1", "1!0.0.1", "update the plugin"),
        ("===weird", "0.1.0", "update the plugin"),
    ],
)
def test_the_range_is_compared_with_the_release_of_the_kernel(declared, kernel, move):
    verdict = range_mismatch(declared, kernel)
    assert verdict == (move and f"needs worldflux-core {declared}, this is {kernel}; {move}")


def test_names_compare_as_pep_503_says():
    assert canonical("Acme__World.model") == canonical("acme-world-model") == "acme-world-model"


@pytest.mark.parametrize(
    ("requires", "verdict"),
    [
        ([], None),
        (["einops>=0.7"], None),
        (["einops[extra]>=0.7 ; python_version > '3'"], None),
        (["absent ; python_version < '3'"], None),
        (["absent>=1"], "needs absent>=1 (absent): pip install 'absent>=1'"),
        (["einops>=2", "absent"], "needs einops>=2 (0.8.1), absent (absent): pip install 'einops>=2' 'absent'"),
    ],
)
def test_unmet_requirements_come_with_the_line_that_installs_them(requires, verdict):
    assert requires_unmet(requires, {"einops": "0.8.1"}.get) == verdict
