import argparse
import pathlib
import unittest

from sicot_tf.recognition import release_sources
from sicot_tf.recognition.http import metrics


class FindTest(unittest.IsolatedAsyncioTestCase):
    async def find(self, *variant_releases, releases=None):
        """For variants a and b, without model and index."""
        arguments = argparse.Namespace(
            releases=releases,
            variant_releases=list(variant_releases),
            model=None,
            catalogue_root=None,
        )
        return await release_sources.find(
            arguments, ["a", "b"], None, metrics.Metrics(lambda: 0), None
        )

    async def test_mistakes(self):
        """Breaks if a variant is answered from another release than its flag
        says, because of a typing error."""
        for texts in (["c=x"], ["a=x", "a=y", "b=x"], ["a"], ["a="], ["=x"]):
            with self.assertRaisesRegex(ValueError, "once for each of the"):
                await self.find(*texts)
        with self.assertRaisesRegex(ValueError, r"\['b'\] have no release"):
            await self.find("a=x")

    async def test_variants_share(self):
        """Breaks if two variants of one folder load its index twice, or two
        of different folders are one."""
        live = await self.find("a=x", "b=./x")
        self.assertIs(live.of("a"), live.of("b"))
        live = await self.find("a=x", releases=pathlib.Path("y"))
        self.assertIsNot(live.of("a"), live.of("b"))
        live = await self.find(releases=pathlib.Path("y"))
        self.assertEqual(live.all(), [live.of("a")])


if __name__ == "__main__":
    unittest.main()
