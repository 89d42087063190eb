"""One directory, one run: who trains in a directory holds a lock on it."""

from ..data.lock import NAME, FolderLock

__all__ = ["NAME", "RunLock"]


class RunLock(FolderLock):
    """The lock of a run's directory, see :class:`~worldflux.data.lock.FolderLock`."""

    who, doing, making = "another training", "trained in", "make a run"
    way_out = "wait until that has ended, or stop it, and resume then; or choose another directory"
