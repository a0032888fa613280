"""What one pass over a record file finds, kept beside the file, so that the pass is made once.

The index of `data/a.tfrecord` is `data/.distkeras/a.tfrecord.index.npz`: in a folder of its own, where no pattern
like `*.tfrecord*` takes it for data. Where that cannot be written, it goes to the user's cache folder. It holds
arrays only, and for which state of the file they are; one of another state, or a torn one, is as good as none.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from distkeras.data.sources.file_systems import StoredFile
from distkeras.errors import ResourceError
from distkeras.observability.atomic_files import write_bytes

FORMAT_VERSION = 1


def load_index(file: StoredFile, wanted: Mapping[str, Any]) -> dict[str, np.ndarray] | None:
    """Returns the arrays that were saved for a file as it is now; None: there are none.

    Args:
        file: The record file.
        wanted: What the arrays must be of, as JSON values: the names of features, for example.
    """
    for path in _places(file):
        try:
            # From memory: where NumPy opens a damaged archive itself, it does not close it.
            with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as archive:
                if str(archive["key"]) == _key(file, wanted):
                    return {name: archive[name] for name in archive.files}
        # What a flipped bit makes of an archive: no file of this kind, of this name, or of a kind that zipfile lacks.
        except (OSError, ValueError, EOFError, KeyError, RuntimeError, zipfile.BadZipFile, zlib.error):
            continue
    return None


def save_index(file: StoredFile, wanted: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    """Saves arrays for `load_index`; where nothing can be written, the next opening makes the pass again."""
    content = io.BytesIO()
    np.savez(content, allow_pickle=False, **arrays, key=np.array(_key(file, wanted)))
    for path in _places(file):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(path, content.getvalue())
        except (OSError, ResourceError):
            continue
        return


def _key(file: StoredFile, wanted: Mapping[str, Any]) -> str:
    state = {"format": FORMAT_VERSION, "num_bytes": file.num_bytes, "version": file.version}
    return json.dumps({**state, **wanted}, sort_keys=True)


def _places(file: StoredFile) -> tuple[Path, Path]:
    path = Path(file.path).absolute()
    name = f"{path.name}.index.npz"
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    digest = hashlib.blake2b(str(path).encode(), digest_size=8).hexdigest()
    return path.parent / ".distkeras" / name, Path(cache) / "distkeras" / f"{digest}-{name}"
