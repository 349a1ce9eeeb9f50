"""Read and damage the files of DVC's cache and of a folder remote."""

import json
import os
from pathlib import Path

import yaml

CACHE, REMOTE = Path(".dvc/cache/files/md5"), Path("../project-remote/files/md5")


def stored(top, oid):
    return top / oid[:2] / oid[2:]


def oids(project=Path()):
    """Hash by path of everything that dvc.lock and the .dvc files reference: files, folders and the files in them."""
    stages = yaml.safe_load((project / "dvc.yaml").read_text())["stages"]
    lock = yaml.safe_load((project / "dvc.lock").read_text())["stages"]
    outs = [out for name, stage in stages.items() for out in lock[name]["outs"] if out["path"] in stage["outs"]]
    outs += [out for file in project.glob("*.dvc") if file.is_file() for out in yaml.safe_load(file.read_text())["outs"]]
    found = {}
    for out in outs:
        found[out["path"]] = out["md5"]
        if out["md5"].endswith(".dir"):
            listed = json.loads(stored(project / CACHE, out["md5"]).read_bytes())
            found |= {f"{out['path']}/{entry['relpath']}": entry["md5"] for entry in listed}
    return found


def flip(file, place=0):
    """Change one byte, but not size, time and mode, like a disk error."""
    before = file.stat()
    file.chmod(0o644)
    with file.open("r+b") as opened:
        opened.seek(place)
        [byte] = opened.read(1)
        opened.seek(place)
        opened.write(bytes([byte ^ 0xFF]))
    file.chmod(before.st_mode & 0o777)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
