"""The eleven tasks that TD-MPC2 adds to dm_control's suite; importing this file needs dm_control.

Bodies, observations and starts are the suite's, except for the reacher's third link and where the spinning cup's ball
begins. Rewards lie in [0, 1] for each control step; :func:`tolerance` is 1 within its bounds and falls off over
``margin`` beyond them.

Source: Hansen et al. 2024 (TD-MPC2), appendix on DMControl, and the tasks' published definitions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any
from xml.etree import ElementTree

import numpy as np
from dm_control.rl import control
from dm_control.suite import ball_in_cup, base, cheetah, hopper, pendulum, reacher, walker
from dm_control.utils.rewards import tolerance

INF = float("inf")


# -- walker ------------------------------------------------------------------------------------------------------------


class BackwardsWalker(walker.PlanarWalker):
    """Stay up and move backwards at ``move_speed`` m/s or more."""

    def get_reward(self, physics: Any) -> float:
        """Return how upright it stands, times how fast it goes back (a sixth of it is paid for standing alone)."""
        standing = tolerance(physics.torso_height(), (1.2, INF), margin=0.6)
        standing = (3 * standing + (1 + physics.torso_upright()) / 2) / 4
        speed, wanted = physics.horizontal_velocity(), self._move_speed
        return standing * (5 * _fast(-speed, wanted, margin=wanted / 2, value_at_margin=0.5) + 1) / 6


def _walker(random: Any, *, speed: float) -> control.Environment:
    physics = walker.Physics.from_xml_string(*walker.get_model_and_assets())
    physics.named.model.geom_size["floor", 0] = 500  # drawn that far; the suite's ends 2 m behind the start
    task = BackwardsWalker(speed, random=random)
    return control.Environment(physics, task, time_limit=25, control_timestep=0.025)


# -- cheetah -----------------------------------------------------------------------------------------------------------


class BackwardsCheetah(cheetah.Cheetah):
    """Run backwards at 8 m/s or more."""

    def get_reward(self, physics: Any) -> float:
        """Return the share of the speed wanted."""
        return _fast(-physics.speed(), 8, margin=8)


class OneFootCheetah(cheetah.Cheetah):
    """Run forwards at 6 m/s or more on one foot, the torso and the ``lifted`` foot 1.2 m up."""

    def __init__(self, lifted: str, random: Any = None) -> None:
        super().__init__(random)
        self._lifted = lifted

    def get_reward(self, physics: Any) -> float:
        """Return how high they are, times how fast it runs (a sixth of it is paid for the pose alone)."""
        up = (3 * _high(_height(physics, self._lifted)) + 2 * _high(_height(physics, "torso"))) / 5
        return up * (5 * _fast(physics.speed(), 6, margin=6) + 1) / 6


class JumpingCheetah(cheetah.Cheetah):
    """Have the torso and each foot, taken in the mean of the two, 1.2 m up, moving no faster than 0.5 m/s."""

    def get_reward(self, physics: Any) -> float:
        """Return the mean over the feet of the height reached, with a sixth for keeping in place."""
        torso = _height(physics, "torso")
        still = tolerance(physics.speed(), (-0.5, 0.5), margin=0.5, value_at_margin=0, sigmoid="linear")
        return sum((5 * _high((torso + _height(physics, foot)) / 2) + still) / 6 for foot in ("bfoot", "ffoot")) / 2


def _cheetah(random: Any, *, task: Callable[..., Any]) -> control.Environment:
    physics = cheetah.Physics.from_xml_string(*cheetah.get_model_and_assets())
    physics.named.model.geom_size["ground", 0] = 200  # as for the walker
    return control.Environment(physics, task(random=random), time_limit=10)


# -- hopper ------------------------------------------------------------------------------------------------------------


class BackwardsHopper(hopper.Hopper):
    """Hop backwards at 1 m/s or more, the torso 0.6 m to 2 m above the foot."""

    def __init__(self, random: Any = None) -> None:
        super().__init__(hopping=True, random=random)

    def get_reward(self, physics: Any) -> float:
        """Return the speed backwards while it stands."""
        return tolerance(physics.height(), (0.6, 2)) * _fast(-physics.speed(), 1, margin=0.5, value_at_margin=0.5)


def _hopper(random: Any) -> control.Environment:
    physics = hopper.Physics.from_xml_string(*hopper.get_model_and_assets())
    return control.Environment(physics, BackwardsHopper(random), time_limit=20, control_timestep=0.02)


# -- reacher -----------------------------------------------------------------------------------------------------------

_ARM = """
<body name="arm" pos="0 0 .01">
  <geom name="arm" type="capsule" fromto="0 0 0 .09 0 0" size=".01" material="self"/>
  <joint name="shoulder"/>
  <body name="forearm" pos=".09 0 0">
    <geom name="forearm" type="capsule" fromto="0 0 0 .09 0 0" size=".01" material="self"/>
    <joint name="elbow" limited="true" range="-80 80"/>
    <body name="hand" pos=".09 0 0">
      <geom name="hand" type="capsule" fromto="0 0 0 .1 0 0" size=".01" material="self"/>
      <joint name="wrist" limited="true" range="-80 80"/>
      <body name="finger" pos=".09 0 0">
        <camera name="hand" pos="0 0 .2" mode="track"/>
        <geom name="finger" type="sphere" size=".01" material="effector"/>
      </body>
    </body>
  </body>
</body>
"""


def _three_links() -> bytes:
    """Return the suite's reacher with an arm of three links, 9 cm each to the next joint, and a motor for each."""
    tree = ElementTree.fromstring(reacher.get_model_and_assets()[0])
    world, motors = tree.find("worldbody"), tree.find("actuator")
    assert world is not None and motors is not None
    place, old = next((i, child) for i, child in enumerate(world) if child.tag == "body")
    world.remove(old)
    world.insert(place, ElementTree.fromstring(_ARM))
    motors.insert(1, ElementTree.Element("motor", name="elbow", joint="elbow"))
    return ElementTree.tostring(tree)


def _reacher(random: Any, *, target: float) -> control.Environment:
    physics = reacher.Physics.from_xml_string(_three_links(), reacher.get_model_and_assets()[1])
    return control.Environment(physics, reacher.Reacher(target, random=random), time_limit=20)


# -- cup and pendulum --------------------------------------------------------------------------------------------------


class SpinningCup(ball_in_cup.BallInCup):
    """Swing the ball around the cup, 0.5 m away or more and at 6 m/s or more."""

    def initialize_episode(self, physics: Any) -> None:
        """Begin with the ball in the cup, in one episode of ten where the suite begins."""
        anywhere = self.random.uniform() < 0.1
        while True:
            physics.named.data.qpos["ball_x"] = self.random.uniform(-0.2, 0.2)
            physics.named.data.qpos["ball_z"] = self.random.uniform(0.2, 0.5)
            physics.after_reset()
            if not physics.data.ncon and (anywhere or physics.in_target()):
                break
        base.Task.initialize_episode(self, physics)

    def get_reward(self, physics: Any) -> float:
        """Return a third for distance and two for speed, nothing while the ball is in the cup."""
        away = float(np.linalg.norm(physics.ball_to_target()))
        speed = float(np.linalg.norm(physics.named.data.qvel[["ball_x", "ball_z"]]))
        paid = _fast(away, 0.5, margin=0.25, value_at_margin=0.5) + 2 * _fast(speed, 6, margin=3, value_at_margin=0.5)
        return (1 - physics.in_target()) * paid / 3


def _cup(random: Any) -> control.Environment:
    physics = ball_in_cup.Physics.from_xml_string(*ball_in_cup.get_model_and_assets())
    return control.Environment(physics, SpinningCup(random=random), time_limit=20, control_timestep=0.02)


class SpinningPendulum(pendulum.SwingUp):
    """Turn at 9 rad/s or more, either way."""

    def get_reward(self, physics: Any) -> float:
        """Return how fast it turns."""
        return _fast(float(np.linalg.norm(physics.angular_velocity())), 9, margin=4.5, value_at_margin=0.5)


def _pendulum(random: Any) -> control.Environment:
    physics = pendulum.Physics.from_xml_string(*pendulum.get_model_and_assets())
    return control.Environment(physics, SpinningPendulum(random), time_limit=20)


# -- shared ------------------------------------------------------------------------------------------------------------


def _fast(value: float, wanted: float, *, margin: float, value_at_margin: float = 0) -> float:
    """Return 1 from ``wanted`` on, below it a line that is ``value_at_margin`` at ``wanted - margin``, then 0."""
    return tolerance(value, (wanted, INF), margin=margin, value_at_margin=value_at_margin, sigmoid="linear")


def _high(height: float) -> float:
    """Return 1 from 1.2 m on, below it a bell that is 0.1 at 0.6 m."""
    return tolerance(height, (1.2, INF), margin=0.6)


def _height(physics: Any, body: str) -> float:
    return physics.named.data.xpos[body, "z"]


TASKS: Mapping[str, Callable[[Any], control.Environment]] = MappingProxyType(
    {
        "walker-walk-backwards": partial(_walker, speed=1),
        "walker-run-backwards": partial(_walker, speed=8),
        "cheetah-run-backwards": partial(_cheetah, task=BackwardsCheetah),
        "cheetah-run-front": partial(_cheetah, task=partial(OneFootCheetah, "bfoot")),
        "cheetah-run-back": partial(_cheetah, task=partial(OneFootCheetah, "ffoot")),
        "cheetah-jump": partial(_cheetah, task=JumpingCheetah),
        "hopper-hop-backwards": _hopper,
        "reacher-three-easy": partial(_reacher, target=0.05),
        "reacher-three-hard": partial(_reacher, target=0.015),
        "cup-spin": _cup,
        "pendulum-spin": _pendulum,
    }
)
"""By name, what builds the task's environment from the seed of its own draws."""
