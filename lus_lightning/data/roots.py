"""Where data and cache lie: local folders, and any fsspec URL through fsspec's local file cache."""

import hashlib
import os
import shutil
from pathlib import Path, PurePosixPath

import fsspec
from fsspec.implementations.cached import WholeFileCacheFileSystem
from fsspec.implementations.local import LocalFileSystem

from lus_lightning.errors import UserError


def cache_folder(cache_dir: str | Path | None) -> Path:
    """Where decoded frames and remote files are kept: the argument, else $LUS_CACHE, else ~/.cache/lus_lightning."""
    return Path(cache_dir or os.environ.get("LUS_CACHE") or Path.home() / ".cache" / "lus_lightning")


def root_name(root: str | Path) -> str:
    """The data root's own name: the last part of its path or URL (`zip://::/data/study.zip` is `study`)."""
    text = str(root)
    if "://" not in text:
        return Path(text).resolve().name
    parts = [part for link in text.split("::") for part in PurePosixPath(link.split("://")[-1]).parts if part != "/"]
    return PurePosixPath(parts[-1]).stem if parts else "data"


def local_root(root: str | Path, cache_dir: Path) -> Path:
    """A folder on this machine that holds the data root: a local folder itself, or a mirror of a URL under `cache_dir`.

    The mirror is compared with the URL on every call; only files that are new or changed are fetched.

    Raises:
        UserError: there is no such folder, it is empty, or the URL cannot be reached.
    """
    text = str(root)
    if "://" not in text:
        return _checked(Path(text).expanduser(), text)
    try:
        remote, base = fsspec.core.url_to_fs(text)
        return _checked(Path(base), text) if isinstance(remote, LocalFileSystem) else _mirror(remote, base, text, cache_dir)
    except ImportError as error:
        raise UserError(f"{text}: this kind of URL needs another package ({error}); install it") from None
    except ValueError as error:
        raise UserError(f"{text}: is no URL that can be read ({error}); give a folder or an fsspec URL") from None
    except OSError as error:
        raise UserError(f"{text}: cannot be reached ({error or type(error).__name__}); check the address and the connection") from None


def _checked(folder: Path, shown: str) -> Path:
    if not folder.exists():
        raise UserError(f"there is no folder {shown}; give the folder that holds the clips")
    if not folder.is_dir():
        raise UserError(f"{shown} is a file, not a folder; give the folder that holds it")
    if not any(folder.iterdir()):
        raise UserError(f"the folder {shown} is empty; give the folder that holds the clips")
    return folder


def _mirror(remote: fsspec.AbstractFileSystem, base: str, shown: str, cache_dir: Path) -> Path:
    found = remote.find(base)
    if not found:
        raise UserError(f"{shown} holds no files, or does not exist; give the folder that holds the clips")
    place = cache_dir / "remote" / hashlib.sha256(shown.encode()).hexdigest()[:16]
    blobs = WholeFileCacheFileSystem(fs=remote, cache_storage=str(place / "blobs"), check_files=True, expiry_time=False)
    mirror = place / root_name(shown)
    prefix = base.rstrip("/") + "/" if base.strip("/") else base
    names = {PurePosixPath(name.removeprefix(prefix).lstrip("/")): name for name in found}
    for relative, name in names.items():
        if ".." in relative.parts:
            raise UserError(f"{shown} names a file outside itself ({relative}); give a cleaner root")
        _link(blobs, name, mirror / relative)
    for path in [p for p in mirror.rglob("*") if p.is_symlink() and PurePosixPath(p.relative_to(mirror).as_posix()) not in names]:
        path.unlink()
    return mirror


def _link(blobs: WholeFileCacheFileSystem, name: str, target: Path) -> None:
    """Let `target` be a link to the cached copy of the remote file `name`; the link's swap is atomic."""
    with blobs.open(name) as file:
        blob = Path(file.name).absolute()
    if target.is_symlink() and target.readlink() == blob:
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.is_dir():
        shutil.rmtree(target)
    fresh = target.with_name(f".{target.name}.{os.getpid()}")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(blob)
    fresh.replace(target)
