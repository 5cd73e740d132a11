"""Where workers and launcher of a job meet."""

import pathlib
import tempfile
import unittest

from beam_jobs.pipelines import meeting_place
from beam_jobs.pipelines import runners
from sicot_tf.stores import opening
from tests.helpers import object_stores


class MeetingPlaceTest(unittest.TestCase):
    def test_where_all_workers_see_it(self):
        """Breaks if workers elsewhere need the disk of the launcher."""
        here = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
        elsewhere = runners.make_pipeline_options("PrismRunner")
        alone = runners.make_pipeline_options()
        with object_stores.s3_bucket() as bucket:
            for store, options in ((here, elsewhere), (bucket, alone)):
                with meeting_place.meeting_place(
                    here / "work", store, options
                ) as place:
                    self.assertEqual(place.location, here / "work")
            with meeting_place.meeting_place(
                here / "work", bucket, elsewhere
            ) as place:
                place.put("facts", b"1")
                (entry,) = opening.open_folder(bucket).list()
                self.assertTrue(entry.key.startswith("."))
            # Nothing is left there.
            self.assertEqual([*opening.open_folder(bucket).list()], [])


if __name__ == "__main__":
    unittest.main()
