"""What the service answers from, as its flags say: for every variant."""

import argparse
import asyncio
import contextlib
import functools
import io
import pathlib
from collections.abc import Callable
from collections.abc import Iterable

import PIL.Image

from sicot_tf.data import generation_cache
from sicot_tf.recognition import model_server
from sicot_tf.recognition import pipeline
from sicot_tf.recognition import settings
from sicot_tf.recognition import wishes
from sicot_tf.recognition.http import metrics
from sicot_tf.recognition.releases import live_release
from sicot_tf.recognition.releases import live_releases
from sicot_tf.recognition.releases import open_release
from sicot_tf.recognition.releases import release_check
from sicot_tf.recognition.releases import releases
from sicot_tf.recognition.releases import search_check

_POLL_SECONDS = 0.1


async def find(
    arguments: argparse.Namespace,
    variants: Iterable[str],
    server: model_server.ModelServer,
    counters: metrics.Metrics,
    change_versions: Callable[[open_release.Models], None] | None,
) -> live_releases.LiveReleases:
    """The release of each variant, not followed yet.

    Args:
        arguments: the parsed flags of `sicot_tf.recognize`.
        variants: names of all.
        change_versions: tells the embedded model server; None: there is none.

    Raises:
        ValueError: if a variant has no release, or flags name none.
    """
    folders = _read_folders(arguments.variant_releases, set(variants))
    # Variants with the same folder share what is open of it.
    groups: dict[pathlib.Path | None, list[str]] = {}
    for name in sorted(variants):
        folder = folders.get(name, arguments.releases)
        groups.setdefault(folder and folder.resolve(), []).append(name)
    versions = change_versions and live_releases.ModelVersions(change_versions)
    by_variant: dict[str, live_release.LiveRelease] = {}

    def report(names: list[str], _: str, outcome: str) -> None:
        counters.count_release(outcome)
        if outcome == "live":
            with by_variant[names[0]].acquire() as release:
                for name in names:
                    counters.set_live(name, release)

    for folder, names in groups.items():
        live = live_release.LiveRelease(
            folder or await _read_pair(arguments, names, server),
            wait_until_available=functools.partial(_wait, server),
            warm_up=functools.partial(
                _warm_up, server, not arguments.catalogue_root
            ),
            change_versions=versions
            and functools.partial(versions.change, names[0]),
            report=functools.partial(report, names),
        )
        by_variant |= dict.fromkeys(names, live)
    return live_releases.LiveReleases(by_variant, versions)


def _read_folders(
    texts: Iterable[str], variants: set[str]
) -> dict[str, pathlib.Path]:
    """`NAME=DIR` of each as a mapping."""
    folders = {}
    for text in texts:
        name, _, path = text.partition("=")
        if name not in variants or name in folders or not path:
            raise ValueError(
                "Expected --variant_releases NAME=DIR, once for each of the "
                f"--variants {sorted(variants)}, received {text!r}."
            )
        folders[name] = pathlib.Path(path)
    return folders


async def _read_pair(
    arguments: argparse.Namespace,
    variants: list[str],
    server: model_server.ModelServer,
) -> releases.Release:
    """`--model` with `--product_index`, as a release that stays."""
    if not arguments.model:
        raise ValueError(
            f"Variants {variants} have no release. Give --variant_releases "
            "for each, or --releases or --model with --product_index."
        )
    base_path, name, version = await _find_model(arguments, server)
    chosen = settings.RecognitionSettings()
    if arguments.settings:
        chosen = settings.read(arguments.settings)
    index = generation_cache.local_generation(arguments.product_index)
    vectors, ranker = (
        folder and generation_cache.local_generation(folder)
        for folder in (arguments.vector_index, arguments.ranker)
    )
    # What a model server elsewhere has can't be compared.
    if vectors and not arguments.model_server:
        fault = search_check.find_mismatch(
            vectors, base_path / str(version), index
        )
        if fault:
            raise ValueError(fault)
    return releases.unpublished(
        index,
        model_base_path=base_path,
        model_version=version,
        model_name=name,
        settings=chosen,
        vector_index_generation=vectors,
        ranker=ranker,
    )


async def _find_model(
    arguments: argparse.Namespace, server: model_server.ModelServer
) -> tuple[pathlib.Path, str, int]:
    """Base path, name and version of `--model`."""
    given = arguments.model
    if not arguments.model_server:
        folder = release_check.newest_version(given)
        return folder.parent, folder.resolve().parent.name, int(folder.name)
    if given.name.isdecimal():
        return given.parent, given.parent.name, int(given.name)
    versions = await server.versions(given.name)
    if not versions:
        raise ValueError(
            f"The model server {server.address} has no model {given.name!r}. "
            "Expected --model NAME or NAME/VERSION as the server names it."
        )
    return given, given.name, max(versions)


async def _wait(
    server: model_server.ModelServer, name: str, version: int, timeout: float
) -> None:
    """Returns once the model server has a version.

    Raises:
        TimeoutError: if it does not get it.
    """
    try:
        async with asyncio.timeout(timeout):
            while True:
                with contextlib.suppress(model_server.ModelServerError):
                    if version in await server.versions(name):
                        return
                await asyncio.sleep(_POLL_SECONDS)
    except TimeoutError as error:
        raise TimeoutError(
            f"The model server has no version {version} of {name} after "
            f"{timeout:g} s."
        ) from error


async def _warm_up(
    server: model_server.ModelServer,
    finds_pictures: bool,
    release: open_release.OpenRelease,
) -> None:
    """Recognises a grey picture, through all stages."""
    if finds_pictures:
        # The catalogue is read once, and not by a request.
        await asyncio.to_thread(lambda: release.catalogue_root)
    output = io.BytesIO()
    PIL.Image.new("RGB", (64, 64), "grey").save(output, "JPEG")
    await pipeline.recognise(
        output.getvalue(),
        wishes.Wishes(),
        pipeline.Request(
            release=release,
            server=server,
            picture_url=lambda *_: None,
            request_id="warm-up",
            variant="",
        ),
    )
