import dataclasses
import io
import pathlib
import tempfile
import unittest

import numpy as np
import PIL.Image

from sicot_tf.recognition import model_server
from sicot_tf.recognition import pipeline
from sicot_tf.recognition import wishes
from sicot_tf.recognition.releases import open_release
from sicot_tf.recognition.releases import releases
from sicot_tf.recognition.settings import RecognitionSettings
from sicot_tf.recognition.stages import localization
from tests.helpers import picture_formats
from tests.helpers import tiny_index
from tests.helpers import tiny_vector_index

# A photo of two halves: red on the left, green on the right.
_WIDTH, _HEIGHT = 80, 40
_HEAT = np.array([[1, 1, 0, 0.8]], np.float32)
_SETTINGS = RecognitionSettings(
    heat_threshold=0.5,
    heat_mass=1.0,
    box_margin=0.0,
    num_neighbours=2,
    category_search_weight=0.25,
    category_sharpness=0.0,
)
_LEFT, _RIGHT = localization.find_boxes(
    _HEAT, width=_WIDTH, height=_HEIGHT, settings=_SETTINGS
)


def _photo():
    image = PIL.Image.new("RGB", (_WIDTH, _HEIGHT), "red")
    image.paste("green", (_WIDTH // 2, 0, _WIDTH, _HEIGHT))
    return picture_formats.encode(image, "PNG")


class ByColour:
    """Answers as a model server does: a SKU by the colour in the middle."""

    def __init__(self, *, whole_score=0.5, heat_map=_HEAT):
        self.whole_score, self.heat_map = whole_score, heat_map
        self.sizes = []

    async def localise(self, name, version, picture):
        return self.heat_map

    async def recognise(self, name, version, pictures):
        found = []
        for picture in pictures:
            image = PIL.Image.open(io.BytesIO(picture)).convert("RGB")
            self.sizes.append(image.size)
            if image.width == _WIDTH:
                ranking, score = ["whole", "red"], self.whole_score
            else:
                middle = (image.width // 2 - 1, image.height // 2)
                is_red = image.getpixel(middle)[0] > 128
                ranking = ["red", "green"] if is_red else ["green", "red"]
                score = 0.75
            found.append(
                model_server.Recognition(
                    sku_ids=ranking,
                    scores=[score, 0.125],
                    recognised=score > 0.6,
                    embedding=np.array([1, 0], np.float32),
                    words=[],
                )
            )
        return found


class PipelineTest(unittest.IsolatedAsyncioTestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        generation = tiny_index.write(
            pathlib.Path(folder.name),
            "2026-01-01-aa",
            [("p1", "red", "fruit"), ("p2", "green", "leaf")],
            # Distances 0 and 2 of the embedding (1, 0).
            [(0, 0, (2, 0)), (1, 0, (0, 1))],
        )
        self.release = open_release.OpenRelease(
            releases.unpublished(
                generation,
                model_base_path=pathlib.Path("tiny"),
                model_version=3,
                settings=_SETTINGS,
            )
        )
        self.addCleanup(self.release.close)

    async def recognise(self, server, settings=None, **parameters):
        return await pipeline.recognise(
            _photo(),
            wishes.read(list(parameters.items()), {}),
            pipeline.Request(
                release=self.release,
                server=server,
                picture_url=lambda product, place, image: f"{product}/{place}",
                request_id="id",
                variant="default",
                settings=settings,
            ),
        )

    async def test_boxes(self):
        """Breaks if an object gets the answer of another box."""
        answer = await self.recognise(ByColour())
        self.assertEqual(
            [(each.box, each.sku_id) for each in answer.objects],
            [(_LEFT, "red"), (_RIGHT, "green")],
        )
        for each in answer.objects:
            self.assertEqual(
                (each.box_from, each.score), ("localisation", 0.75)
            )
        self.assertTrue(answer.recognised)
        self.assertEqual(answer.model_version, 3)

    async def test_surer_answer(self):
        """Breaks if a poor box costs an answer that the whole photo gives,
        or the whole photo answers for the other objects."""
        answer = await self.recognise(ByColour(whole_score=0.8))
        self.assertEqual(
            [(each.box, each.sku_id) for each in answer.objects],
            [(_LEFT, "whole"), (_RIGHT, "green")],
        )
        self.assertEqual(
            answer.objects[0].note, "The catalogue has no product of SKU whole."
        )

    async def test_box_of_the_user(self):
        """Breaks if the whole photo overrules the user; or a long box is cut
        where the model does not look."""
        server = ByColour(whole_score=0.99)
        answer = await self.recognise(server, box="50,0,80,10")
        [found] = answer.objects
        self.assertEqual(found.box, (50, 0, 80, 10))
        self.assertEqual((found.sku_id, found.box_from), ("green", "user"))
        self.assertEqual(server.sizes, [(30, 30)])

    async def test_without_localisation(self):
        """Breaks if a model without heat maps, or a request without them,
        gets no answer."""
        for server, flags in (
            (ByColour(heat_map=None), {}),
            (ByColour(), {"localize": "false"}),
        ):
            [found] = (await self.recognise(server, **flags)).objects
            self.assertEqual(found.box, (0, 0, _WIDTH, _HEIGHT))
            self.assertEqual((found.sku_id, found.box_from), ("whole", "photo"))
            self.assertFalse(found.recognised)

    async def test_category(self):
        """Breaks if a voter is left out, or weighs otherwise than set."""
        answer = await self.recognise(ByColour())
        # Model: red 0.75, green 0.125 of 0.875. Search: one picture each.
        self.assertAlmostEqual(answer.category.by_model["fruit"], 6 / 7)
        self.assertEqual(answer.category.by_search["leaf"], 0.5)
        self.assertEqual(answer.category.name, "fruit")
        self.assertAlmostEqual(answer.category.score, 0.75 * 6 / 7 + 0.25 * 0.5)
        similar = answer.objects[0].similar_pictures
        self.assertEqual(
            [(each.product_id, each.picture) for each in similar],
            [("p1", "p1/0"), ("p2", "p2/0")],
        )
        np.testing.assert_allclose(
            [each.distance for each in similar], [0, 2], atol=1e-6
        )

    async def test_switches(self):
        """Breaks if a stage runs though it was not wanted."""
        answer = await self.recognise(
            ByColour(), category="false", similar="false", top_k="1"
        )
        self.assertIsNone(answer.category)
        for each in answer.objects:
            self.assertEqual(each.similar_pictures, [])
            self.assertEqual(each.alternatives, [])

    async def test_settings_of_a_variant(self):
        """Breaks if a variant is recognised with the settings of all."""
        one = RecognitionSettings(heat_threshold=0.5, max_objects=1)
        answer = await self.recognise(ByColour(), settings=one)
        self.assertEqual(len(answer.objects), 1)


class SearchTest(unittest.IsolatedAsyncioTestCase):
    """With a vector index: red pictures lie at (1, 0), green at (0, 1)."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = pathlib.Path(folder.name)
        self.index = tiny_index.write(
            self.root / "index",
            "2026-01-01-aa",
            [
                *(("p1", "red", "fruit"), ("p2", "green", "leaf")),
                *(("p3", "new", "leaf"), ("p4", "blue", "leaf")),
            ],
        )

    def open(self, signature="embedding", **settings):
        vectors = tiny_vector_index.write(
            self.root / "vectors",
            f"2026-01-01-{signature}",
            [
                *(("p1", 0, "fruit", (0.6, 0.8)), ("p2", 0, "leaf", (0, 1))),
                *(("p3", 0, "leaf", (1, 0)), ("p3", 1, "leaf", (0.8, 0.6))),
            ],
            signature=signature,
        )
        release = open_release.OpenRelease(
            releases.unpublished(
                self.index,
                model_base_path=pathlib.Path("tiny"),
                model_version=3,
                settings=dataclasses.replace(_SETTINGS, **settings),
                vector_index_generation=vectors,
            )
        )
        self.addCleanup(release.close)
        self.assertIsNone(release.nearest_pictures)
        return release

    async def recognise(self, release, server=None, **parameters):
        return await pipeline.recognise(
            _photo(),
            wishes.read(list(parameters.items()), {}),
            self.request(release, server),
        )

    def request(self, release, server=None):
        return pipeline.Request(
            release=release,
            server=server or ByColour(),
            picture_url=lambda product, place, image: f"{product}/{place}",
            request_id="id",
            variant="default",
        )

    def ids(self, search):
        return [each.product.product_id for each in search.results]

    async def test_results(self):
        """Breaks if a product comes twice, by another picture than its best,
        or of another order."""
        answer = await self.recognise(self.open())
        self.assertEqual(self.ids(answer.search), ["p3", "p1", "p2"])
        np.testing.assert_allclose(
            [each.similarity for each in answer.search.results],
            [1, 0.6, 0],
            atol=1e-3,
        )
        self.assertEqual(answer.search.results[0].picture, "p3/0")
        # The crop was surer than the whole photo.
        self.assertEqual(answer.search.box, _LEFT)
        self.assertEqual(answer.search.box_from, "localisation")
        similar = answer.objects[0].similar_pictures
        self.assertEqual([each.product_id for each in similar], ["p3"])

    async def test_own_box(self):
        """Breaks if the search branch does not get the whole photo, or the
        crop of the user; or its box is not that of the answer."""
        release = self.open("search")
        server = Searching()
        answer = await self.recognise(release, server)
        # The whole photo, and the crop of the second object.
        self.assertEqual(server.embedded, [(80, 40), (40, 40)])
        self.assertEqual(answer.search.box, (20, 10, 60, 40))
        self.assertEqual(answer.search.box_from, "search")
        self.assertEqual(self.ids(answer.search), ["p2", "p1", "p3"])
        answer = await self.recognise(release, server, box="50,0,80,10")
        self.assertEqual(server.embedded, [(30, 30)])
        self.assertEqual(answer.search.box, (50, 0, 80, 10))
        self.assertEqual(answer.search.box_from, "user")

    async def test_unknown_sku(self):
        """Breaks if a SKU that the classifier does not know is not answered
        from the index; or counts as recognised below the threshold."""
        release = self.open(sku_search_weight=0.75, sku_search_sharpness=64.0)
        [found, _] = (await self.recognise(release)).objects
        # p3 has all of the share; red has a quarter of 0.75.
        self.assertEqual(
            (found.sku_id, found.product.product_id), ("new", "p3")
        )
        self.assertAlmostEqual(found.score, 0.75, 3)
        self.assertFalse(found.recognised)
        self.assertEqual(found.alternatives[0].sku_id, "red")
        self.assertAlmostEqual(found.alternatives[0].score, 0.1875, 3)
        release = self.open(
            "search",
            sku_search_weight=0.75,
            sku_search_threshold=0.7,
        )
        [found, _] = (await self.recognise(release, Searching())).objects
        self.assertEqual((found.sku_id, found.recognised), ("green", True))

    async def test_category_narrows(self):
        """Breaks if a sure category changes nothing, hides what looks most
        alike, or is forgotten on the next page."""
        release = self.open("search", search_certainty=0.5)
        answer = await self.recognise(release, Searching())
        self.assertEqual(answer.category.name, "fruit")
        # p2 is no fruit, but looks more alike than p1.
        self.assertEqual(self.ids(answer.search), ["p2", "p1"])
        again = await pipeline.search_query(
            wishes.read(
                [("query", answer.search.query)], {}, wishes.QuerySearch
            ),
            self.request(release),
        )
        self.assertEqual(self.ids(again.search), ["p2", "p1"])
        answer = await self.recognise(
            release, Searching(), category_filter="leaf"
        )
        self.assertEqual(self.ids(answer.search), ["p2", "p3"])

    async def test_off(self):
        """Breaks if results come that were not wanted."""
        release = self.open()
        answer = await self.recognise(release, search="false")
        self.assertIsNone(answer.search)
        self.assertNotIn("results", answer.milliseconds)


class Searching(ByColour):
    """Has a branch that sees green, and a box of its own."""

    async def embed(self, name, version, pictures):
        self.embedded = [
            PIL.Image.open(io.BytesIO(each)).size for each in pictures
        ]
        green = np.array([0, 2], np.float32)
        return [
            model_server.Embedded(green, (0.25, 0.25, 0.75, 1.0))
            for _ in pictures
        ]


if __name__ == "__main__":
    unittest.main()
