"""Weights of a neural model: groups and contiguous arrays of numbers in an HDF5 file written by Keras."""

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from sentiflow.config.model_settings import NeuralSettings
from sentiflow.data.vocabulary import Vocabulary
from sentiflow.registry.untrusted.reading import DEEPEST, MOST_ENTRIES, refusal_of
from sentiflow.system.errors import InputError

LONGEST = 100_000  # words of a review
MOST_VALUES = 4_000_000  # in the output of one layer for one review

# HDF5's oldest format at offset 0: no free-space info, end of file at the file's size (%b), no driver.
SUPERBLOCK = b"\x89HDF\r\n\x1a\n" + bytes([0, 0, 0, 0, 0, 8, 8, 0, 4, 0, 16, *[0] * 13]) + b"\xff" * 8 + b"%b" + b"\xff" * 8


def check(file: Path, config_file: Path, settings: NeuralSettings, words: Vocabulary, classes: tuple[str, ...]) -> None:
    """Refuses settings for a larger model than the stored weights, and a file of anything but arrays of numbers."""
    values = settings.widest()
    if settings.length > LONGEST or values > MOST_VALUES:
        raise refusal_of(config_file, f"has a length of {settings.length}, for which one layer has {values} outputs")
    stored = _weights_in(file)
    size = words.size(at_most=settings.vocabulary_size, minimum_count=settings.minimum_count)
    expected = settings.weights(vocabulary_size=size, classes=len(classes))
    if expected > stored:  # Keras would allocate them before it compares
        raise refusal_of(config_file, f"has settings for {expected} weights, but {file.name} has {stored}")


def _weights_in(file: Path) -> int:
    size = file.stat().st_size
    with file.open("rb") as opened:
        head = opened.read(56)
    if head != SUPERBLOCK % size.to_bytes(8, "little"):
        raise refusal_of(file, "is truncated, or not an HDF5 file written by Keras")
    try:
        with h5py.File(file, "r") as opened:
            arrays = list(_arrays(file, opened.id, 0, set()))
            if sum(array.get_storage_size() for array in arrays) > size:
                raise refusal_of(file, "has arrays that overlap")
            for array in arrays:
                numbers = h5py.Dataset(array)[()]
                if not np.isfinite(numbers).all():
                    raise refusal_of(file, f"has weights that are not finite numbers in {h5py.Dataset(array).name!r}")
            return sum(math.prod(array.shape) for array in arrays)
    except InputError:
        raise
    except (OSError, RuntimeError, ValueError, TypeError, KeyError, IndexError, OverflowError, MemoryError) as error:
        raise refusal_of(file, f"is truncated or corrupt ({str(error)[:200]})") from None


def _arrays(file: Path, group: Any, depth: int, seen: set[int]) -> Iterator[Any]:
    """All arrays below a group, by HDF5's low-level API: the high-level one follows links and reads attributes."""
    _check_attributes(file, group)
    count = group.get_num_objs()
    if depth > DEEPEST or count > MOST_ENTRIES:
        raise refusal_of(file, f"has more than {MOST_ENTRIES} objects or is nested more than {DEEPEST} deep")
    for index in range(count):
        name = group.get_objname_by_idx(index)
        if not re.fullmatch(rb"[A-Za-z0-9_]{1,200}", name):
            raise refusal_of(file, f"has an object named {name[:100]!r}")
        if group.links.get_info(name).type != h5py.h5l.TYPE_HARD:
            raise refusal_of(file, f"has the link {name!r} instead of an object")
        part = h5py.h5o.open(group, name)
        address = h5py.h5o.get_info(part).addr
        if address in seen or len(seen) > MOST_ENTRIES:
            raise refusal_of(file, f"has {name!r} under two names, or more than {MOST_ENTRIES} objects")
        seen.add(address)
        if isinstance(part, h5py.h5g.GroupID):
            yield from _arrays(file, part, depth + 1, seen)
        elif isinstance(part, h5py.h5d.DatasetID):
            _check_array(file, name, part)
            yield part
        else:
            raise refusal_of(file, f"has {name!r}, which is neither a group nor an array")


def _check_array(file: Path, name: bytes, array: Any) -> None:
    storage, kind = array.get_create_plist(), array.get_type()
    if storage.get_external_count() or storage.get_layout() != h5py.h5d.CONTIGUOUS or storage.get_nfilters():
        raise refusal_of(file, f"has {name!r}, which is compressed, virtual or in another file")
    numbers = isinstance(kind, h5py.h5t.TypeFloatID | h5py.h5t.TypeIntegerID)
    if not numbers or kind.dtype not in (np.float32, np.float64, np.uint32, np.int32, np.int64):
        raise refusal_of(file, f"has {name!r}, whose type is not a number")
    space = array.get_space()
    # HDF5 returns zeros in any shape for data that was never written
    if (
        space.get_simple_extent_type() not in (h5py.h5s.SIMPLE, h5py.h5s.SCALAR)
        or len(array.shape) > 4
        or math.prod(array.shape) * kind.get_size() != array.get_storage_size()
        or (math.prod(array.shape) and array.get_offset() is None)
    ):
        raise refusal_of(file, f"has {name!r} of shape {array.shape}, which does not match its size")
    if h5py.h5a.get_num_attrs(array):
        raise refusal_of(file, f"has {name!r} with attributes")


def _check_attributes(file: Path, group: Any) -> None:
    """Allows only the layer name that Keras writes; nothing reads it."""
    count = h5py.h5a.get_num_attrs(group)
    names = [h5py.h5a.open(group, index=index).name for index in range(min(count, 2))]
    if names not in ([], [b"name"]):
        raise refusal_of(file, f"has attributes {names} that Keras does not write")
    for index in range(count):
        attribute = h5py.h5a.open(group, index=index)
        if not isinstance(attribute.get_type(), h5py.h5t.TypeStringID) or attribute.shape != ():
            raise refusal_of(file, "has a layer name that is not text")
