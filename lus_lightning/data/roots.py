"""Where data and cache lie: local folders, and any fsspec URL through a local file cache."""

import errno
import os
import uuid
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

import fsspec
from fsspec.implementations.local import LocalFileSystem

from lus_lightning.console import track
from lus_lightning.data.identity import digest, renamed
from lus_lightning.errors import UserError


def cache_folder(cache_dir: str | Path | None) -> Path:
    """Where decoded frames and remote files are kept: the argument, else $LUS_CACHE, else ~/.cache/lus_lightning."""
    return Path(cache_dir or os.environ.get("LUS_CACHE") or Path.home() / ".cache" / "lus_lightning")


def root_name(root: str | Path) -> str:
    """The data root's own name: the last part of its path or URL (`zip://::/data/study.zip` is `study`)."""
    text = str(root)
    if "://" not in text:
        return Path(text).resolve().name
    links = [PurePosixPath(link.split("://")[-1]) for link in text.split("::")]
    inner = next((i for i, link in enumerate(links) if link.name), 0)
    return (links[inner].name if inner == 0 else links[inner].stem) or "data"


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
        remedy = f"free space in {cache_dir}" if error.errno == errno.ENOSPC else "check the address and the connection"
        raise UserError(f"{text}: cannot be reached ({error or type(error).__name__}); {remedy}") from None


def _checked(folder: Path, shown: str) -> Path:
    if not folder.exists():
        raise UserError(f"there is no folder {shown}; give the folder that holds the clips")
    if not folder.is_dir():
        raise UserError(f"{shown} is a file, not a folder; give the folder that holds it")
    if not any(folder.iterdir()):
        raise UserError(f"the folder {shown} is empty; give the folder that holds the clips")
    return folder


def _mirror(remote: fsspec.AbstractFileSystem, base: str, shown: str, cache_dir: Path) -> Path:
    """Fetch what is new into files named after content and address, and lay links to them out as the remote folder is."""
    remote.invalidate_cache()
    found = remote.find(base, detail=True, on_error="raise")
    if not found:
        raise UserError(f"{shown} holds no files, or does not exist; give the folder that holds the clips")
    place = cache_dir / "remote" / digest(shown)[:16]
    mirror = place / root_name(shown)
    prefix = f"{base.rstrip('/')}/" if base.strip("/") else base
    wanted = {}
    for name, known in track(found.items(), f"fetching {shown}", len(found)):
        relative = PurePosixPath(name.removeprefix(prefix).lstrip("/"))
        if "http" in remote.protocol:  # listed as in the page's links
            relative = PurePosixPath(unquote(str(relative)))
        if ".." in relative.parts:
            raise UserError(f"{shown} names a file outside itself ({relative}); give a cleaner root")
        # Listings of web pages tell nothing of a file; its own headers do (ETag, Last-Modified).
        info = remote.info(name) if known.get("size") is None else known
        wanted[mirror / relative] = _fetched(remote, name, place / "files" / digest(sorted(info.items(), key=str)))
    for path in [p for p in mirror.rglob("*") if p.is_symlink() and p not in wanted]:
        path.unlink()
    for target, file in wanted.items():
        _link(file, target)
    return mirror


def _fetched(remote: fsspec.AbstractFileSystem, name: str, file: Path) -> Path:
    if not file.exists():
        with renamed(file) as fresh:
            remote.get_file(name, str(fresh))
    return file.absolute()


def _link(file: Path, target: Path) -> None:
    """Let `target` be a link to `file`; another process that does the same finds the old link or the new, never none."""
    if target.is_symlink() and target.readlink() == file:
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    fresh.symlink_to(file)
    fresh.replace(target)
