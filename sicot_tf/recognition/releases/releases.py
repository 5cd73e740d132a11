"""Releases: a model version and the indexes built for it, as one.

A folder holds a JSON file for each release and `LIVE`, which names the one in
use. Both are written under another name and renamed, so a reader finds the
old release or the new one, whenever a publisher is killed.
"""

import datetime
import pathlib
from typing import Any

import pydantic

from sicot_tf import files
from sicot_tf.data import generations
from sicot_tf.recognition.releases import release_check
from sicot_tf.recognition.releases import search_check
from sicot_tf.recognition.settings import RecognitionSettings

LIVE = "LIVE"


class Release(pydantic.BaseModel, frozen=True, extra="forbid"):
    """What goes live together.

    Attributes:
        published_at: UTC, ISO 8601.
        before: the release that was live then; a roll-back leads to it.
        model_base_path: `<base>` of `<base>/<version>`.
        weights_sha256: as `export.json` names the weights.
        model_identity: digest of what the version holds.
        index_generation: folder of the generation.
        index_identity: SHA-256 of its manifest.
        check: what `release_check.check` found.
        vector_index_generation: folder of the pictures' vectors by this model;
            None: there is no visual search.
        vector_index_identity: SHA-256 of its manifest.
        ranker: folder of the generation; None: the most similar first.
        ranker_identity: SHA-256 of its manifest.
    """

    name: str
    published_at: str
    before: str | None
    model_name: str
    model_base_path: pathlib.Path
    model_version: int
    weights_sha256: str
    model_identity: str
    index_generation: pathlib.Path
    index_identity: str
    settings: RecognitionSettings
    check: dict[str, Any]
    # Releases published before there was visual search have none of these.
    vector_index_generation: pathlib.Path | None = None
    vector_index_identity: str | None = None
    ranker: pathlib.Path | None = None
    ranker_identity: str | None = None

    @property
    def model_folder(self) -> pathlib.Path:
        """The SavedModel: `<base>/<version>`."""
        return self.model_base_path / str(self.model_version)


def publish(
    folder: pathlib.Path,
    model: pathlib.Path,
    index_generation: pathlib.Path,
    settings: RecognitionSettings,
    found: release_check.Check,
    *,
    vector_index_generation: pathlib.Path | None = None,
    ranker: pathlib.Path | None = None,
) -> Release:
    """Makes a pair live; the release that is live if it is the same.

    Args:
        model: SavedModel, `<base>/<version>`.
        found: what `release_check.check` says of the pair.
        vector_index_generation: for visual search.
        ranker: generation; for the order of what search finds.

    Raises:
        ValueError: if another process publishes, something is not whole, or
            the vector index is of another model or product index.
    """
    model, index_generation = model.resolve(), index_generation.resolve()
    now = datetime.datetime.now(datetime.UTC)
    contents = {
        "model_name": model.parent.name,
        "model_base_path": model.parent,
        "model_version": int(model.name),
        "weights_sha256": release_check.weights_sha256(model),
        "model_identity": release_check.model_identity(model),
        "index_generation": index_generation,
        "index_identity": release_check.index_identity(index_generation),
        "settings": settings,
        **_search_parts(
            model, index_generation, vector_index_generation, ranker
        ),
    }
    with generations.only_builder(folder):
        # What a killed publisher left.
        for path in folder.glob(".*.tmp"):
            path.unlink()
        try:
            before = live_name(folder)
            current = read(folder, before) if before else None
        except ValueError:
            # What can't be read any more shall not stop a good release.
            before = current = None
        if current and all(
            getattr(current, key) == value for key, value in contents.items()
        ):
            return current
        digest = files.json_sha256({k: str(v) for k, v in contents.items()})
        release = Release(
            name=f"{now:%Y-%m-%dT%H%M%S}-{digest[:8]}",
            published_at=now.isoformat(timespec="seconds"),
            before=before,
            check=found.as_dict(),
            **contents,
        )
        files.write_json(
            _path(folder, release.name), release.model_dump(mode="json")
        )
        _point_live(folder, release.name)
    return release


def unpublished(
    index_generation: pathlib.Path,
    *,
    model_base_path: pathlib.Path,
    model_version: int,
    settings: RecognitionSettings,
    model_name: str = "",
    vector_index_generation: pathlib.Path | None = None,
    ranker: pathlib.Path | None = None,
) -> Release:
    """A pair that stays as it is, without a folder of releases.

    Args:
        model_base_path: need not be there if the model server is elsewhere.
        model_name: of the model server; "" for the name of the folder.
    """
    base, index = model_base_path.resolve(), index_generation.resolve()
    return Release(
        name="fixed",
        published_at="",
        before=None,
        model_name=model_name or base.name,
        model_base_path=base,
        model_version=model_version,
        weights_sha256="",
        model_identity="",
        index_generation=index,
        index_identity="",
        settings=settings,
        check={},
        vector_index_generation=_resolve(vector_index_generation),
        ranker=_resolve(ranker),
    )


def live_name(folder: pathlib.Path) -> str | None:
    """The name in `LIVE`; None if nothing was published yet.

    Raises:
        ValueError: if it is no name of a release.
    """
    path = folder / LIVE
    try:
        name = path.read_text("utf-8").strip()
        is_there = bool(name) and _path(folder, name).is_file()
    except FileNotFoundError:
        return None
    except ValueError:  # No UTF-8, or NUL in it.
        name, is_there = "", False
    if not is_there or pathlib.Path(name).name != name:
        raise ValueError(
            f"Expected {path} to name a release beside it, received {name!r}. "
            "Roll back to one: python -m sicot_tf.release --releases "
            f"{folder} --rollback NAME (--list shows them)."
        )
    return name


def read(folder: pathlib.Path, name: str) -> Release:
    """A release as it was published; whether it still holds: `find_fault`.

    Raises:
        ValueError: if there is none of this name, or its file is damaged.
    """
    path = _path(folder, name)
    try:
        return Release.model_validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise ValueError(
            f"{folder} has no release {name!r}. See them: python -m "
            f"sicot_tf.release --releases {folder} --list"
        ) from error
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise ValueError(
            f"{path} is damaged: {place} {first['msg']}. Publish again, or "
            "roll back to another release."
        ) from error


def find_fault(release: Release, model_is_elsewhere: bool = False) -> str:
    """Why a release can't be used any more; empty if it can.

    Args:
        model_is_elsewhere: the model need not be on this machine; if it is,
            it is compared all the same.
    """
    model = release.model_identity
    try:
        if not model_is_elsewhere or release.model_folder.exists():
            model = release_check.model_identity(release.model_folder)
        index = release_check.index_identity(release.index_generation)
    except ValueError as error:
        return str(error)
    if model != release.model_identity:
        return (
            f"{release.model_folder} is not the model that was published as "
            f"{release.name}: its files have changed. Publish it again."
        )
    if index != release.index_identity:
        return (
            f"{release.index_generation} is not the index that was published "
            f"as {release.name}: its manifest has changed. Publish it again."
        )
    for folder, published in (
        (release.vector_index_generation, release.vector_index_identity),
        (release.ranker, release.ranker_identity),
    ):
        try:
            if folder and search_check.identity(folder) != published:
                return (
                    f"{folder} is not what was published as {release.name}: "
                    "its manifest has changed. Publish it again."
                )
        except ValueError as error:
            return str(error)
    return ""


def live(folder: pathlib.Path) -> Release | None:
    """The release in use; None if nothing was published yet.

    Raises:
        ValueError: if it can't be read, or its model or index is gone or
            changed.
    """
    name = live_name(folder)
    if name is None:
        return None
    release = read(folder, name)
    fault = find_fault(release)
    if fault:
        raise ValueError(fault)
    return release


def history(folder: pathlib.Path) -> list[tuple[str, Release | None, str]]:
    """Name, release and fault (or "") of each, the oldest first.

    The release is None if its file can't be read.
    """
    found = []
    for path in sorted(folder.glob("[!.]*.json")):
        try:
            release = read(folder, path.stem)
            found.append((path.stem, release, find_fault(release)))
        except ValueError as error:
            found.append((path.stem, None, str(error)))
    return found


def roll_back(folder: pathlib.Path, name: str | None = None) -> Release:
    """Makes an earlier release live: by name, or the one live before.

    Raises:
        ValueError: if there is none, or its model or index is gone.
    """
    with generations.only_builder(folder):
        if name is None:
            current = live_name(folder)
            name = read(folder, current).before if current else None
            if name is None:
                raise ValueError(
                    f"{folder} has no release before the present one. Name "
                    "one of those that --list shows."
                )
        release = read(folder, name)
        fault = find_fault(release)
        if fault:
            raise ValueError(fault)
        _point_live(folder, name)
    return release


def _search_parts(
    model: pathlib.Path,
    index_generation: pathlib.Path,
    vectors: pathlib.Path | None,
    ranker: pathlib.Path | None,
) -> dict[str, Any]:
    vectors, ranker = _resolve(vectors), _resolve(ranker)
    if ranker and not vectors:
        raise ValueError(
            "Expected a vector index beside the ranker, which orders what is "
            "found in it. Give --vector_index too."
        )
    if vectors:
        fault = search_check.find_mismatch(vectors, model, index_generation)
        if fault:
            raise ValueError(fault)
    return {
        "vector_index_generation": vectors,
        "vector_index_identity": vectors and search_check.identity(vectors),
        "ranker": ranker,
        "ranker_identity": ranker and search_check.identity(ranker),
    }


def _resolve(path: pathlib.Path | None) -> pathlib.Path | None:
    return path and path.resolve()


def _path(folder: pathlib.Path, name: str) -> pathlib.Path:
    return folder / f"{name}.json"


def _point_live(folder: pathlib.Path, name: str) -> None:
    files.write_text(folder / LIVE, f"{name}\n")
