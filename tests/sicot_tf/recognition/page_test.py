"""The page of the recognition service, in a browser, on the real service."""

import contextlib
import io
import json
import pathlib
import sqlite3
import tempfile
import unittest
import urllib.parse

import httpx
import numpy as np
import PIL.Image
from playwright import sync_api

from sicot_tf.catalogue import product_index
from tests.helpers import browsers
from tests.helpers import html_pages
from tests.helpers import tiny_index
from tests.helpers import tiny_recognizer
from tests.helpers import tiny_server
from tests.helpers import tiny_vector_index

# A machine that does much else besides is slow.
_PATIENCE_SECONDS = 120
# Products that the classifier does not know, one in three of them a food.
_NUM_NEW = 45


def _file(data: bytes, media_type: str = "image/jpeg") -> sync_api.FilePayload:
    return {"name": "photo", "mimeType": media_type, "buffer": data}


class PageTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        sync_api.expect.set_options(timeout=1000 * _PATIENCE_SECONDS)
        playwright = cls.enterClassContext(sync_api.sync_playwright())
        cls.browser = browsers.start(playwright)
        cls.addClassCleanup(cls.browser.close)
        folder = pathlib.Path(
            cls.enterClassContext(tempfile.TemporaryDirectory())
        )
        recognizer = tiny_recognizer.RecognizerProcess(
            folder,
            *("--model", "tiny"),
            *("--model_server", tiny_server.shared().grpc_address),
            *("--product_index", _write_index(folder)),
            *("--vector_index", folder / "vectors"),
            *("--events", folder / "events"),
            *("--catalogue_root", folder, "--max_bytes", 200_000),
        )
        cls.addClassCleanup(recognizer.kill)
        cls.address = recognizer.url
        cls.sure, cls.unsure = (
            _find_photo(cls.address, recognised) for recognised in (True, False)
        )

    def open(self, **settings: object) -> sync_api.Page:
        """The page as a new visitor sees it; fails later if a script of the
        catalogue ran, or the content security policy was broken."""
        context = self.browser.new_context(
            **({"locale": "en", "reduced_motion": "reduce"} | settings)
        )
        context.set_default_timeout(1000 * _PATIENCE_SECONDS)
        self.addCleanup(context.close)
        # A form with a file can't be read from outside.
        context.add_init_script(
            """
            const ask = fetch;
            window.boxes = [];
            window.fetch = (address, options) => {
              if (options?.body instanceof FormData) {
                boxes.push(options.body.get("box"));
              }
              return ask(address, options);
            };"""
        )
        page = context.new_page()
        wrong = []
        page.on("dialog", lambda dialog: wrong.append(dialog.message))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on(
            "console",
            lambda message: (
                "Content Security Policy" in message.text
                and wrong.append(message.text)
            ),
        )
        self.addCleanup(lambda: self.assertEqual(wrong, []))
        page.goto(self.address)
        return page

    def upload(self, page: sync_api.Page, file: sync_api.FilePayload) -> dict:
        """Chooses a file; the answer of the service."""
        with page.expect_response("**/v1/recognize") as response:
            page.set_input_files("#file", file)
        answer = response.value.json()
        # Drawn by now.
        sync_api.expect(page.locator("#panel")).to_have_attribute(
            "aria-busy", "false"
        )
        return answer

    def test_upload_to_panel(self):
        """Breaks if the panel lacks what the catalogue says, or takes it for
        HTML."""
        page = self.open()
        answer = self.upload(page, self.sure)
        main = answer["objects"][0]
        self.assertTrue(main["recognised"])
        panel = page.locator("#panel")
        self.assertIn(html_pages.ATTACK, main["product"]["title"])
        self.assertEqual(
            panel.locator(".card .title").inner_text(), main["product"]["title"]
        )
        self.assertEqual(
            panel.locator(".tags li").all_inner_texts(),
            [html_pages.ATTACK, "红色"],
        )
        self.assertEqual(panel.locator(".price").inner_text(), "€1,234.50")
        self.assertIn(html_pages.ATTACK, panel.locator("dl").inner_text())
        link = panel.locator(".pictures a").first
        self.assertEqual(
            link.get_attribute("href"),
            f"https://shop.example/{urllib.parse.quote(main['sku_id'])}",
        )
        sync_api.expect(panel.locator(".card img").first).to_have_js_property(
            "naturalWidth", 24
        )
        self.assertEqual(panel.locator("script, [onerror]").count(), 0)
        rows = panel.locator(".alternatives li")
        self.assertEqual(rows.count(), len(main["alternatives"]))
        for row, other in zip(rows.all(), main["alternatives"]):
            self.assertRegex(row.inner_text(), r"\d %$")
            self.assertIn(other["product"]["title"], row.inner_text())
        self.assertIn("Recognised", page.locator("#status").inner_text())
        page.get_by_text("Why this answer").click()
        self.assertEqual(
            panel.locator(".similar li").count(), len(main["similar_pictures"])
        )

    def test_chinese(self):
        """Breaks if a language lacks a text, or Chinese tags are read out
        as another language."""
        page = self.open(locale="zh-CN")
        keys = page.evaluate(
            """async () => {
              const names = (texts) => Object.entries(texts).flatMap(
                ([name, text]) => typeof text === "object"
                  ? Object.keys(text).map((each) => `${name}.${each}`)
                  : [name]);
              const [english, chinese] = await Promise.all(
                ["en", "zh"].map((each) => import(`/words_${each}.js`)));
              return [names(english.default), names(chinese.default)];
            }"""
        )
        self.assertEqual(keys[0], keys[1])
        self.assertEqual(page.locator("html").get_attribute("lang"), "zh")
        self.assertEqual(page.locator("h1").inner_text(), "这是什么商品？")
        self.upload(page, self.sure)
        languages = page.locator("#panel .tags li").evaluate_all(
            "tags => tags.map((each) => each.lang)"
        )
        self.assertEqual(languages, ["en", "zh"])
        page.get_by_role("button", name="English").click()
        self.assertEqual(page.locator("html").get_attribute("lang"), "en")
        self.assertEqual(page.locator("#finding").inner_text(), "Recognised")
        self.assertIn("lang=en", page.url)

    def test_box(self):
        """Breaks if a moved box is not what the service is asked about, the
        focus is lost on the way, or the other objects are."""
        page = self.open()
        answer = self.upload(page, self.sure)
        box = page.locator(".box[aria-pressed=true]")
        page.get_by_text("Set the box by numbers").click()
        fields = page.locator("#numbers input")
        for field, value in zip(fields.all(), (4, 3, 16, 15)):
            field.fill(str(value))
            field.blur()
        self.assertEqual(_box_asked_about(page), [4, 3, 16, 15])
        box.focus()
        # 24 x 20 pixels: each key is one of them.
        for key in ("ArrowRight", "ArrowDown", "Shift+ArrowLeft"):
            page.keyboard.press(key)
        self.assertEqual(_box_asked_about(page), [5, 4, 16, 16])
        sync_api.expect(box).to_be_focused()
        self.assertEqual(page.locator(".box").count(), len(answer["objects"]))
        # As the service answers.
        values = [each.input_value() for each in fields.all()]
        self.assertEqual(values, ["5", "4", "16", "16"])
        # Now by pointer, from the corner into the middle: half of it is left.
        corner = page.locator(".box[aria-pressed=true] .nw").bounding_box()
        x, y = (
            corner["x"] + corner["width"] / 2,
            corner["y"] + corner["height"] / 2,
        )
        area = box.bounding_box()
        page.mouse.move(x, y)
        page.mouse.down()
        page.mouse.move(x + area["width"] / 2, y + area["height"] / 2)
        page.mouse.up()
        # The middle of 5 and 16, and of 4 and 16, to a pixel.
        *corner, right, bottom = _box_asked_about(page)
        np.testing.assert_allclose(corner, [10.5, 10], atol=1)
        self.assertEqual([right, bottom], [16, 16])
        page.get_by_role("button", name="Whole photo").click()
        self.assertEqual(_box_asked_about(page), [0, 0, 24, 20])

    def test_several_objects(self):
        """Breaks if another object of the photo can't be looked at."""
        page = self.open()
        self.addCleanup(page.unroute_all)

        def add_object(route: sync_api.Route) -> None:
            # The tiny model sees one object: the second is made of the first.
            answer = route.fetch().json()
            (first, *_) = answer["objects"]
            other = first["alternatives"][0]
            second = first | other | {"box": [12, 10, 23, 19], "note": None}
            answer["objects"] = [first, second]
            route.fulfill(json=answer)

        page.route("**/v1/recognize", add_object)
        answer = self.upload(page, self.sure)
        buttons = page.locator("#objects button")
        self.assertEqual(buttons.count(), 2)
        buttons.nth(1).press("Enter")
        sync_api.expect(buttons.nth(1)).to_be_focused()
        self.assertEqual(
            page.locator(".card .title").inner_text(),
            answer["objects"][1]["product"]["title"],
        )
        # By the box on the photo, too.
        page.locator(".box").first.click(position={"x": 5, "y": 5})
        self.assertEqual(
            page.locator(".card .title").inner_text(),
            answer["objects"][0]["product"]["title"],
        )
        # A new answer of an object stays with it while one looks at another.
        with page.expect_response("**/v1/recognize"):
            page.locator(".box[aria-pressed=true]").press("ArrowRight")
            buttons.nth(1).press("Enter")
        sync_api.expect(page.locator("#panel")).to_have_attribute(
            "aria-busy", "false"
        )
        fields = page.locator("#numbers input").all()
        self.assertEqual(
            [each.input_value() for each in fields], ["12", "10", "23", "19"]
        )

    def test_keyboard_alone(self):
        """Breaks if a part can't be reached, or the focus is not where the
        news is."""
        page = self.open()
        page.on("filechooser", lambda chooser: chooser.set_files(self.sure))
        _tab_to(page, "#choose")
        page.keyboard.press("Enter")
        finding = page.locator("#finding")
        sync_api.expect(finding).to_have_text("Recognised")
        sync_api.expect(finding).to_be_focused()
        _tab_to(page, ".pictures a")
        _tab_to(page, ".alternatives button")
        page.keyboard.press("Enter")
        sync_api.expect(finding).to_have_text("Comes into question")
        sync_api.expect(finding).to_be_focused()
        _tab_to(page, ".back")
        page.keyboard.press("Enter")
        sync_api.expect(finding).to_have_text("Recognised")
        _tab_to(page, ".why summary")
        page.keyboard.press("Enter")
        _tab_to(page, ".similar button")
        page.keyboard.press("Enter")
        sync_api.expect(finding).to_have_text("Comes into question")

    def test_not_in_the_catalogue(self):
        """Breaks if a guess is shown as if it were the product."""
        page = self.open()
        answer = self.upload(page, self.unsure)
        self.assertFalse(answer["objects"][0]["recognised"])
        self.assertIn("Not in the catalogue", page.inner_text("#finding"))
        self.assertIn("Not in the catalogue", page.inner_text("#status"))
        self.assertEqual(page.locator(".card").count(), 0)
        self.assertEqual(
            page.locator(".alternatives li").count(),
            1 + len(answer["objects"][0]["alternatives"]),
        )

    def test_failures(self):
        """Breaks if somebody is left without a sentence, or a way on."""
        page = self.open()
        failure = page.locator("#failure p").first
        page.set_input_files("#file", _file(b"no picture"))
        sync_api.expect(failure).to_contain_text("no picture that the browser")
        # A PNG of noise: more bytes than the service was told to take.
        noise = np.random.default_rng(0).integers(0, 256, (300, 300, 3))
        self.upload(page, _file(_png(noise.astype(np.uint8)), "image/png"))
        sync_api.expect(failure).to_contain_text("too large")
        button = page.locator("#failure button")
        sync_api.expect(button).to_have_text("Choose a photo")
        page.context.set_offline(True)
        page.set_input_files("#file", self.sure)
        sync_api.expect(failure).to_contain_text("cannot be reached")
        sync_api.expect(button).to_be_focused()
        page.context.set_offline(False)
        page.keyboard.press("Enter")
        sync_api.expect(page.locator("#finding")).to_have_text("Recognised")
        self.assertEqual(page.locator("#failure").inner_text(), "")

    def test_large_photo(self):
        """Breaks if large photos are sent as they are, or lie on their side.

        Orientation 6: what is stored is turned by a quarter to be seen.
        """
        stored = PIL.Image.new("RGB", (2400, 600), "navy")
        exif = stored.getexif()
        exif[0x0112] = 6
        data = io.BytesIO()
        stored.save(data, "jpeg", exif=exif)
        answer = self.upload(self.open(), _file(data.getvalue()))
        self.assertEqual(answer["photo"], {"width": 400, "height": 1600})

    def test_ways_in(self):
        """Breaks if a photo can't be dropped, pasted, or taken."""
        page = self.open(permissions=["camera"])
        for event, field in (
            ("drop", "dataTransfer"),
            ("paste", "clipboardData"),
        ):
            with self.subTest(event), page.expect_response("**/v1/recognize"):
                page.evaluate(
                    """([type, field, bytes]) => {
                      const transfer = new DataTransfer();
                      transfer.items.add(new File([new Uint8Array(bytes)],
                        "photo.jpg", { type: "image/jpeg" }));
                      const kind = type === "drop" ? DragEvent : ClipboardEvent;
                      document.body.dispatchEvent(new kind(
                        type, { [field]: transfer, bubbles: true }));
                    }""",
                    [event, field, list(self.sure["buffer"])],
                )
        page.get_by_role("button", name="Camera").click()
        sync_api.expect(page.locator("video")).not_to_have_js_property(
            "videoWidth", 0
        )
        with page.expect_response("**/v1/recognize"):
            page.get_by_role("button", name="Take the photo").click()
        sync_api.expect(page.locator("#camera")).to_be_hidden()

    def test_similar_products(self):
        """Breaks if a product of the answer is not shown or taken for HTML,
        if more of them need the photo again, lose the focus, or are not
        announced."""
        page = self.open()
        answer = self.upload(page, self.sure)
        total = answer["search"]["total"]
        self.assertGreater(total, 20)
        items = page.locator("#results li.item")
        self.assertEqual(items.count(), 20)
        for item, result in zip(items.all(), answer["search"]["results"]):
            product = result["product"]
            self.assertEqual(
                item.locator(".name").inner_text(), product["title"]
            )
            self.assertEqual(
                item.locator("a").get_attribute("href"),
                f"https://shop.example/{urllib.parse.quote(product['sku_id'])}",
            )
            self.assertIn(f"{result['similarity']:.2f}", item.inner_text())
        self.assertEqual(page.locator("#results [onerror]").count(), 0)
        self.assertIn(
            f"{total} similar products.", page.locator("#status").inner_text()
        )
        sync_api.expect(items.locator("img").first).to_have_js_property(
            "naturalWidth", 24
        )
        shown = 20
        while shown < total:
            more = page.get_by_role("button", name="More products")
            with page.expect_request("**/v1/search?*") as request:
                more.press("Enter")
            self.assertEqual(request.value.method, "GET")
            sync_api.expect(items.nth(shown).locator("a").first).to_be_focused()
            before, shown = shown, items.count()
            sync_api.expect(page.locator("#status")).to_have_text(
                f"{shown - before} more products, {shown} of {total}."
            )
        self.assertEqual(shown, total)
        links = items.locator("a").evaluate_all("each => each.map(a => a.href)")
        self.assertEqual(len(set(links)), total)
        sync_api.expect(more).to_be_hidden()
        # The photo was sent once.
        self.assertEqual(page.evaluate("boxes.length"), 1)

    def test_filters(self):
        """Breaks if a filter shows what it is to leave out, loses the focus,
        or leaves somebody before an empty place."""
        page = self.open()
        self.upload(page, self.sure)
        status = page.locator("#status")
        items = page.locator("#results li.item")
        # One in three of 45.
        category = page.get_by_label("Category")
        category.focus()
        category.select_option("food")
        sync_api.expect(status).to_have_text("15 similar products.")
        self.assertEqual(items.count(), 15)
        sync_api.expect(page.get_by_label("Category")).to_be_focused()
        # Foods are new-00, new-03, ...; they cost 1, 4, 7, 10, 13.
        page.get_by_label("Price from").fill("4")
        page.get_by_label("Price to").fill("12")
        page.get_by_label("Price to").press("Enter")
        sync_api.expect(status).to_have_text("3 similar products.")
        self.assertEqual(
            sorted(items.locator(".price").all_inner_texts()),
            ["€10.00", "€4.00", "€7.00"],
        )
        page.get_by_role("button", name="new 15").press("Enter")
        tag = page.get_by_role("button", name="new 15", pressed=True)
        sync_api.expect(tag).to_be_focused()
        page.get_by_text("Filters (4)").wait_for()
        page.get_by_label("Price to").fill("4.5")
        page.get_by_label("Price from").fill("4.2")
        page.get_by_label("Price from").press("Enter")
        sync_api.expect(page.locator(".nothing p")).to_have_text(
            "No similar product fits these filters."
        )
        page.locator(".nothing button").press("Enter")
        sync_api.expect(items).to_have_count(20)
        sync_api.expect(page.get_by_text("Filters", exact=True)).to_be_focused()
        self.assertEqual(page.evaluate("boxes.length"), 1)

    def test_box_of_the_results(self):
        """Breaks if a new box does not search anew."""
        page = self.open()
        first = self.upload(page, self.sure)["search"]
        with page.expect_response("**/v1/recognize") as response:
            page.locator(".box[aria-pressed=true]").press("Shift+ArrowLeft")
        second = response.value.json()["search"]
        self.assertEqual(second["box_from"], "user")
        self.assertNotEqual(second["query"], first["query"])
        sync_api.expect(page.locator(".results-head")).to_contain_text(
            "the box that you set"
        )
        self.assertEqual(
            page.locator("#results .name").all_inner_texts(),
            [each["product"]["title"] for each in second["results"]],
        )

    def test_results_that_fail(self):
        """Breaks if one is left without a sentence, or with one that leads
        nowhere."""
        page = self.open()
        self.addCleanup(page.unroute_all)
        self.upload(page, self.sure)
        more = page.get_by_role("button", name="More products")
        failure = page.locator("#results .failure p").first
        page.context.set_offline(True)
        more.click()
        sync_api.expect(failure).to_contain_text("cannot be reached")
        page.context.set_offline(False)
        sync_api.expect(
            page.locator("#results .failure button")
        ).to_be_focused()
        page.keyboard.press("Enter")
        sync_api.expect(page.locator("#results li.item")).to_have_count(40)

        def of_another_model(route: sync_api.Route) -> None:
            # The first bytes of a query name the model.
            address = urllib.parse.urlsplit(route.request.url)
            wishes = dict(urllib.parse.parse_qsl(address.query))
            wishes["query"] = "AAAAAAAAAA" + wishes["query"][10:]
            query = urllib.parse.urlencode(wishes)
            route.continue_(url=address._replace(query=query).geturl())

        page.route("**/v1/search?*", of_another_model)
        more.click()
        sync_api.expect(failure).to_contain_text("was renewed meanwhile")
        with page.expect_response("**/v1/recognize"):
            page.keyboard.press("Enter")
        sync_api.expect(page.locator("#results li.item")).to_have_count(20)
        self.assertEqual(page.locator("#results .failure").count(), 0)

    def test_events_of_results(self):
        """Breaks if the events are no click log: what was shown on a page,
        and what was clicked at which place."""
        page = self.open()
        told = []
        page.on(
            "response",
            lambda response: (
                response.url.endswith("/v1/events")
                and told.append(
                    (response.status, response.request.post_data_json)
                )
            ),
        )
        answer = self.upload(page, self.sure)
        with page.expect_response("**/v1/events"):
            page.get_by_role("button", name="More products").click()
        item = page.locator("#results li.item").nth(21)
        with page.expect_response("**/v1/events"), page.expect_popup() as popup:
            item.locator("a").click()
        popup.value.close()
        self.assertEqual({status for status, _ in told}, {204})
        rows = [row for _, row in told if "position" in row]
        first, second, click = rows
        self.assertEqual(
            {row["request_id"] for row in rows}, {answer["request_id"]}
        )
        self.assertEqual(
            first["shown"],
            [
                each["product"]["product_id"]
                for each in answer["search"]["results"]
            ],
        )
        self.assertEqual((first["position"], second["position"]), (1, 21))
        self.assertEqual(
            (click["event"], click["position"], click["product_id"]),
            ("click", 22, second["shown"][1]),
        )

    def test_narrow_phone(self):
        """Breaks if one has to scroll sideways on 320 pixels."""
        page = self.open(
            viewport={"width": 320, "height": 640},
            is_mobile=True,
            has_touch=True,
        )
        self.assertEqual(_width(page), 320)
        for photo in (self.sure, self.unsure):
            self.upload(page, photo)
            for summary in page.locator("summary").all():
                summary.click()
            self.assertEqual(_width(page), 320)

    def test_everybody_can_use_it(self):
        """Breaks if axe-core finds something serious in light or dark."""
        for scheme in ("light", "dark"):
            page = self.open(color_scheme=scheme)
            with self.subTest(scheme, at="start"):
                self.assertEqual(browsers.violations(page), [])
            for photo in (self.sure, self.unsure):
                self.upload(page, photo)
                page.get_by_text("Why this answer").click()
                with self.subTest(scheme, at="answer"):
                    self.assertEqual(browsers.violations(page), [])
            page.set_input_files("#file", _file(b"no picture"))
            page.wait_for_selector("#failure button")
            with self.subTest(scheme, at="failure"):
                self.assertEqual(browsers.violations(page), [])


def _find_photo(address: str, recognised: bool) -> sync_api.FilePayload:
    """The first photo that the tiny model is sure of, or is not."""
    for seed in range(100):
        photo = _file(tiny_server.make_jpeg(seed))
        answer = httpx.post(
            f"{address}/v1/recognize",
            content=photo["buffer"],
            timeout=_PATIENCE_SECONDS,
        ).json()
        if answer["objects"][0]["recognised"] == recognised:
            return photo
    raise AssertionError(f"No photo of 100 has recognised={recognised}.")


def _write_index(folder: pathlib.Path) -> pathlib.Path:
    """A product of each SKU, and new ones; beside it their vector index."""
    new = [f"new-{number:02}" for number in range(_NUM_NEW)]
    sku_ids = [*tiny_server.SKU_IDS, *new]
    categories = [
        "food" if sku_id in new[::3] else "drinks" for sku_id in sku_ids
    ]
    vectors = np.random.default_rng(0).normal(
        size=(len(sku_ids), tiny_server.EMBEDDING_DIM)
    )
    products = [
        (f"shop/{sku_id}", sku_id, category)
        for sku_id, category in zip(sku_ids, categories)
    ]
    generation = tiny_index.write(
        folder / "index", "2026-11-27-000000000000", products, []
    )
    tiny_vector_index.write(
        folder / "vectors",
        "2026-11-27-111111111111",
        [
            (product_id, 0, category, vector)
            for (product_id, _, category), vector in zip(products, vectors)
        ],
    )
    (folder / "picture.jpg").write_bytes(tiny_server.make_jpeg(0))
    with contextlib.closing(
        sqlite3.connect(generation / product_index.STORE)
    ) as store:
        for place, sku_id in enumerate(sku_ids):
            attributes = {
                # The new ones cost 1, 2, 3, ...
                "price": 1234.5 if place < 7 else place - 6,
                "currency": "EUR",
                "url": f"https://shop.example/{sku_id}",
                html_pages.ATTACK: html_pages.ATTACK,
            }
            tags = [html_pages.ATTACK, "红色"] if place < 7 else ["new"]
            store.execute(
                "UPDATE products SET title = ?, images = ?, tags = ?, "
                "attributes = ? WHERE sku_id = ?",
                (
                    *(_title(sku_id), json.dumps(["picture.jpg"] * 2)),
                    *(json.dumps(tags), json.dumps(attributes), sku_id),
                ),
            )
        store.commit()
    return folder / "index"


def _title(sku_id: str) -> str:
    return f"{html_pages.ATTACK} {sku_id} {'long' * 30}"


def _box_asked_about(page: sync_api.Page) -> list[int]:
    """The box of the last request, once it is answered."""
    # Until then it says that the box was changed.
    sync_api.expect(page.locator("#status")).to_contain_text("% sure")
    return [int(side) for side in page.evaluate("boxes.at(-1)").split(",")]


def _tab_to(page: sync_api.Page, selector: str) -> None:
    """Presses Tab until the first such element has the focus."""
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.locator(selector).first.evaluate(
            "each => each === document.activeElement"
        ):
            return
    raise AssertionError(f"Tab never comes to {selector}.")


def _width(page: sync_api.Page) -> int:
    return page.evaluate("document.documentElement.scrollWidth")


def _png(pixels: np.ndarray) -> bytes:
    data = io.BytesIO()
    PIL.Image.fromarray(pixels).save(data, "png")
    return data.getvalue()
