"""A fault of HDF5 files that nothing can be told of once the library has met it: it would read for ever."""

from __future__ import annotations

import mmap
import struct
from pathlib import Path

from ...recording import damaged

_HEAP = b"GCOL\x01\0\0\0"  # where values of no fixed length lie: texts, JPEGs
_WHOLE, _PART = 1 << 28, 1 << 25  # bytes: files up to the first are looked through, larger ones at both ends
_ENTRY = struct.Struct("<HHIQ")  # its number (0: free space), uses, nothing, its bytes


def check_heaps(file: Path) -> None:
    """Raise DatasetError for a heap with an entry of no bytes, as a block of zeros makes: HDF5 never comes past it.

    Looks where heaps may be, not at what uses them, so that no value needs to be read. Raises OSError.
    """
    with file.open("rb") as handle:
        size = handle.seek(0, 2)
        if size < 64:
            return
        with mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as data:
            if data[10 if data[8] > 1 else 14] != 8:  # lengths of another width
                return
            for start, stop in [(0, size)] if size <= _WHOLE else [(0, _PART), (size - _PART, size)]:
                at = data.find(_HEAP, start, stop)
                while at >= 0:
                    if _endless(data, at, size):
                        way_out = "take the file from where it came from, or have h5repack save what can be"
                        raise damaged(file, f"the heap at byte {at:,} is damaged", way_out=way_out)
                    at = data.find(_HEAP, at + 8, stop)


def _endless(data: mmap.mmap, at: int, size: int) -> bool:
    end = min(at + int.from_bytes(data[at + 8 : at + 16], "little"), size)
    here = at + 16
    while end - here >= _ENTRY.size:
        number, _, _, length = _ENTRY.unpack_from(data, here)
        step = _ENTRY.size + -(-length // 8) * 8 if number else length
        if not step:
            return True
        here += step
    return False
