"""Tables in Parquet with an episode column."""

from .reading import Parquet

__all__ = ["Parquet"]
