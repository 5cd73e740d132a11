import dataclasses
import json
import pathlib
import tempfile
import unittest

from sicot_tf.recognition import settings


class SettingsTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = pathlib.Path(folder.name, "recognition.json")

    def read(self, content):
        self.path.write_text(json.dumps(content))
        return settings.read(self.path)

    def test_read(self):
        """Broken: a service runs with other numbers than were chosen."""
        read = self.read(
            {
                "settings": {"category_search_weight": 0.3, "max_objects": 2},
                "model_version": 7,
            }
        )
        self.assertEqual(
            read,
            settings.RecognitionSettings(
                category_search_weight=0.3, max_objects=2
            ),
        )
        chosen = settings.RecognitionSettings(num_neighbours=5)
        self.assertEqual(
            self.read({"settings": dataclasses.asdict(chosen)}), chosen
        )

    def test_refused(self):
        """Broken: a mistyped setting is taken for its default, or a value
        that makes no sense is found at the first photo."""
        for content, words in (
            ({"settings": {"category_weight": 1}}, "category_weight.*Known"),
            ({"category_search_weight": 1}, 'object "settings"'),
            ([], 'object "settings"'),
            ({"settings": {"heat_mass": 1.5}}, "heat_mass .* 0 to 1, rec"),
            ({"settings": {"heat_mass": "1"}}, "a number, .* received '1'"),
            ({"settings": {"heat_mass": True}}, "received True"),
            ({"settings": {"max_objects": 0}}, "1 or more, received 0"),
            ({"settings": {"max_objects": 2.0}}, "whole number.*received 2.0"),
            ({"settings": {"box_margin": float("inf")}}, "received inf"),
            ({"settings": {"box_margin": float("nan")}}, "received nan"),
        ):
            with self.subTest(words):
                with self.assertRaisesRegex(ValueError, words) as caught:
                    self.read(content)
                self.assertIn(str(self.path), str(caught.exception))

    def test_every_setting_has_a_range(self):
        """Broken: a new setting can't be read back."""
        names = [
            each.name
            for each in dataclasses.fields(settings.RecognitionSettings)
        ]
        self.assertEqual(list(settings._RANGES), names)


if __name__ == "__main__":
    unittest.main()
