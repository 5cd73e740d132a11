"""A browser for tests of pages, and axe-core, which checks that everybody can
use them.

Neither comes with the project: a test that lacks one is skipped, and says so.
"""

import os
import pathlib
import shutil
import subprocess
import tarfile
import unittest

from playwright import sync_api

_AXE = "axe-core-4.14.1"
_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")


def start(playwright: sync_api.Playwright) -> sync_api.Browser:
    """Chromium, with a camera that shows a test picture.

    Raises:
        unittest.SkipTest: if none is installed.
    """
    path = next(filter(None, map(shutil.which, _NAMES)), None)
    if path is None:
        raise unittest.SkipTest(
            "No Chromium is installed, so the page is not tested: "
            "`apt-get install chromium`."
        )
    return playwright.chromium.launch(
        executable_path=path,
        args=["--no-sandbox", "--disable-gpu"]
        + ["--use-fake-device-for-media-stream"]
        + ["--use-fake-ui-for-media-stream"],
    )


def axe() -> str:
    """The script of axe-core (MPL-2.0), fetched once and kept.

    Raises:
        unittest.SkipTest: if it is not kept yet and npm is missing or fails.
    """
    cache = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    script = pathlib.Path(cache) / "sicot_tf" / f"{_AXE}.js"
    if not script.exists():
        script.parent.mkdir(parents=True, exist_ok=True)
        package = script.with_suffix(".tgz")
        npm = shutil.which("npm")
        if npm is None or _fails(npm, script.parent):
            raise unittest.SkipTest(
                f"npm is missing or has no way to its registry, so {_AXE} "
                "does not check the page."
            )
        partial = script.with_suffix(f".{os.getpid()}")
        with tarfile.open(package) as archive:
            member = archive.extractfile("package/axe.min.js")
            partial.write_bytes(member.read())
        partial.rename(script)
        package.unlink()
    return script.read_text("utf-8")


def _fails(npm: str, folder: pathlib.Path) -> bool:
    name, _, version = _AXE.rpartition("-")
    return bool(
        subprocess.run(
            [npm, "pack", f"{name}@{version}", "--silent"],
            cwd=folder,
            capture_output=True,
            check=False,
        ).returncode
    )


def violations(page: sync_api.Page) -> list[str]:
    """Serious and critical ones of a page, in words."""
    # By DevTools, so that the page's content security policy stays as it is.
    page.evaluate(axe())
    found = page.evaluate("axe.run()")["violations"]
    return [
        f"{each['id']}: {each['help']} at "
        + ", ".join(str(node["target"]) for node in each["nodes"])
        for each in found
        if each["impact"] in ("serious", "critical")
    ]
