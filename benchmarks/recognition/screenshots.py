"""Draws the page of a running recognition service, for the documentation.

Writes recognition_page.png (a desk), recognition_page_dark.png and
recognition_page_phone.png; where there are similar products, also these, as
recognition_page_results.png and so on.

examples:
  python -m sicot_tf.recognize --model saved_models/sicot \\
      --product_index demo/index --vector_index demo/vectors \\
      --catalogue_root demo/shop
  python -m benchmarks.recognition.screenshots http://127.0.0.1:8080/ \\
      --photo photo.jpg --box 65,5,118,58 --output docs/images
"""

import argparse
import io
import pathlib
import shutil

import PIL.Image
from playwright import sync_api

_DESK = {"viewport": {"width": 1120, "height": 760}}
_SCREENS = {
    "recognition_page": _DESK,
    "recognition_page_dark": _DESK | {"color_scheme": "dark"},
    "recognition_page_phone": {
        "viewport": {"width": 360, "height": 780},
        "device_scale_factor": 1.5,
        "is_mobile": True,
        "has_touch": True,
    },
}


def main() -> None:
    """Three pictures of one photo."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("address", help="of the page")
    parser.add_argument("--photo", type=pathlib.Path, required=True)
    parser.add_argument("--box", help="left,top,right,bottom that a user sets")
    parser.add_argument("--output", type=pathlib.Path, default=".")
    parser.add_argument("--browser", default=shutil.which("chromium"))
    arguments = parser.parse_args()
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=arguments.browser, args=["--no-sandbox"]
        )
        for name, screen in _SCREENS.items():
            page = browser.new_page(
                locale="en", reduced_motion="reduce", **screen
            )
            page.goto(arguments.address)
            page.set_input_files("#file", arguments.photo)
            page.wait_for_selector("#panel[aria-busy=false] .alternatives")
            if arguments.box:
                _set_box(page, arguments.box.split(","))
            page.wait_for_load_state("networkidle")
            # Not where the focus is.
            page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
            _shoot(page, arguments.output / f"{name}.png")
            results = page.locator("#results")
            if results.is_visible():
                results.evaluate("each => each.scrollIntoView()")
                page.wait_for_load_state("networkidle")
                end = name.removeprefix("recognition_page")
                _shoot(
                    page,
                    arguments.output / f"recognition_page_results{end}.png",
                )
            page.close()
        browser.close()


def _shoot(page: sync_api.Page, path: pathlib.Path) -> None:
    shot = PIL.Image.open(io.BytesIO(page.screenshot()))
    # 256 colours: a third of the bytes.
    shot.convert("RGB").quantize(method=PIL.Image.Quantize.MEDIANCUT).save(
        path, optimize=True
    )


def _set_box(page: sync_api.Page, sides: list[str]) -> None:
    summary = page.locator(".by-hand summary")
    summary.click()
    with page.expect_response("**/v1/recognize"):
        for field, side in zip(page.locator("#numbers input").all(), sides):
            field.fill(side)
            field.blur()
    page.wait_for_selector("#panel[aria-busy=false]")
    summary.click()


if __name__ == "__main__":
    main()
