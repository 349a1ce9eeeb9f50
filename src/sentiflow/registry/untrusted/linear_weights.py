"""Weights of a linear model: an uncompressed archive of NumPy arrays."""

import math
import struct
import tokenize
import warnings
import zipfile
from pathlib import Path

import numpy as np

from sentiflow.config.model_settings import LinearSettings
from sentiflow.registry.untrusted.reading import refusal_of
from sentiflow.system.errors import InputError

LARGEST_DIRECTORY = 4_000  # bytes of the archive's central directory


def check(file: Path, settings: LinearSettings, classes: tuple[str, ...]) -> None:
    """Refuses a file unless it has exactly the arrays of a linear model.

    The headers are checked first: shapes must match each other, the config and the size of the file before any data is read.
    """
    grams = [f"grams_{length}" for length in range(1, settings.ngrams + 1)]
    required = {"weights", "bias", *grams}
    size = file.stat().st_size
    with file.open("rb") as opened:
        opened.seek(max(size - 42, 0))
        end = opened.read()
    # zipfile reads the whole central directory on opening, so its size is checked before
    entries, directory = struct.unpack_from("<10xH1I", end, len(end) - 22)[:2] if len(end) == 42 else (0, 0)
    if end[-22:-18] != b"PK\5\6" or end[:4] == b"PK\6\7" or entries > 16 or directory > LARGEST_DIRECTORY:
        raise refusal_of(file, "is truncated, or not an archive written by NumPy")
    shapes: dict[str, tuple[int, ...]] = {}
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            names = [member.filename.removesuffix(".npy") for member in members]
            stored = sum(member.file_size for member in members)
            if not (required <= set(names) <= required | {"idf"}) or len(set(names)) < len(names):
                raise refusal_of(file, f"has {sorted(names)}, expected {sorted(required)} and optionally idf")
            if any(member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1 for member in members) or stored > size:
                raise refusal_of(file, "has a compressed, encrypted or overlapping array")
            for name, member in zip(names, members, strict=True):
                shapes[name] = _shape_of_npy(file, archive, member, "i8" if name in grams else "f4 f8")
        rows, columns = 1 if len(classes) == 2 else len(classes), sum(math.prod(shapes[name]) for name in grams)
        expected = {"weights": (rows, columns), "bias": (rows,)} | {name: (math.prod(shapes[name]),) for name in grams}
        for name, shape in (expected | ({"idf": (columns,)} if "idf" in shapes else {})).items():
            if shapes[name] != shape:
                raise refusal_of(file, f"has {name} of shape {shapes[name]}, expected {shape}")
        with file.open("rb") as opened, np.load(opened, allow_pickle=False) as arrays:
            for name in shapes:
                array = arrays[name]
                if name in grams and len(array) and (array[0] < 0 or (np.diff(array) <= 0).any()):
                    raise refusal_of(file, f"has {name} that are not increasing from 0")
                if not np.isfinite(array).all():
                    raise refusal_of(file, f"has {name} that are not finite numbers")
    except InputError:
        raise
    except (zipfile.BadZipFile, ValueError, TypeError, KeyError, IndexError, EOFError, OSError) as error:
        raise refusal_of(file, f"is truncated or corrupt ({error})") from None
    except (
        NotImplementedError,
        RuntimeError,
        OverflowError,
        MemoryError,
        struct.error,
        SyntaxError,
        tokenize.TokenError,
        UserWarning,
    ) as error:
        raise refusal_of(file, f"is not an archive written by NumPy ({error})") from None


def _shape_of_npy(file: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo, types: str) -> tuple[int, ...]:
    """Shape of an array, whose type must be one of `types` and whose data must fill the member."""
    with archive.open(member) as opened:
        if np.lib.format.read_magic(opened) != (1, 0):
            raise refusal_of(file, f"has {member.filename!r} in a version of NumPy's format other than 1.0")
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # NumPy only warns about headers written by Python 2
            shape, _, dtype = np.lib.format.read_array_header_1_0(opened, max_header_size=300)
        if dtype not in [np.dtype(f"<{name}") for name in types.split()]:
            raise refusal_of(file, f"has {member.filename!r} of type {dtype}, expected {types}")
        if opened.tell() + math.prod(shape) * dtype.itemsize != member.file_size or min(shape, default=-1) < 0:
            raise refusal_of(file, f"has {member.filename!r} whose shape {shape} does not match its size")
    return tuple(shape)
