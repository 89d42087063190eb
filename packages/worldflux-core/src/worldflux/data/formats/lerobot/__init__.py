"""LeRobotDatasets, read without lerobot."""

from .reading import LeRobot

__all__ = ["LeRobot"]
