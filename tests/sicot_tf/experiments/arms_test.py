"""Candidates, twins and the names of their runs."""

import pathlib

import tensorflow as tf

from sicot_tf.experiments import arms
from sicot_tf.experiments.experiment_file import Arm
from sicot_tf.experiments.experiment_file import Experiment


def _experiment(*members):
    return Experiment(
        name="sock",
        description="",
        dataset=pathlib.Path("dataset"),
        output=pathlib.Path("out"),
        baseline="visual",
        seeds=(0, 1),
        train={"epochs": 3},
        choose_on="first",
        arms={each.name: each for each in members},
    )


_VISUAL = Arm("visual", {"streams": "visual"})


class ArmsTest(tf.test.TestCase):
    def test_candidates(self):
        """Breaks if a combination is left out, or two share a folder."""
        arm = Arm("a", {"mixed_loss_weight": [0.5, 1], "neck_dim": [0, 8]})
        experiment = _experiment(arm)
        found = arms.candidates(experiment, arm, {})
        self.assertEqual(
            [each.run for each in found],
            ["a-0.5-0", "a-0.5-8", "a-1-0", "a-1-8"],
        )
        self.assertEqual(found[1].values, "mixed_loss_weight 0.5, neck_dim 8")
        self.assertEqual(
            found[1].settings,
            {"epochs": 3, "mixed_loss_weight": 0.5, "neck_dim": 8},
        )
        self.assertEqual(
            found[1].run_dir(experiment, 7),
            pathlib.Path("out/runs/a-0.5-8-seed7"),
        )

    def test_combines_what_was_chosen(self):
        """Breaks if a combination takes another value than the chosen one, or
        two choices share its folder."""
        first = Arm("first", {"mixed_loss_weight": [0.5, 1]})
        second = Arm("second", {"label_smoothing": 0.1, "neck_dim": 8})
        both = Arm("both", {"neck_dim": 4}, combines=("first", "second"))
        experiment = _experiment(first, second, both)
        chosen = {
            "first": arms.candidates(experiment, first, {})[1],
            "second": arms.candidates(experiment, second, {})[0],
        }
        (found,) = arms.candidates(experiment, both, chosen)
        self.assertEqual(
            found.own,
            {"mixed_loss_weight": 1, "label_smoothing": 0.1, "neck_dim": 4},
        )
        self.assertEqual(found.run, "both-1")

    def test_who_reads_titles(self):
        """Breaks if a text method goes without its control.

        Co-training is what `streams` is by default. A second stage on top of
        it, its post hoc change and what combines it have learned from titles
        as well.
        """
        members = [
            _VISUAL,
            Arm("cotrain"),
            Arm("flagged", {"streams": "visual"}, reads_titles=True),
            Arm("words", {"streams": "visual", "word_loss_weight": 0.1}),
            Arm("rows", {"streams": "visual", "word_rows_scale": 0.1}),
            Arm("later", {"streams": "visual"}, init_from="cotrain"),
            Arm("after", of="cotrain", evaluate={"logit_adjustment": 1}),
            Arm("plain_after", of="visual", evaluate={"logit_adjustment": 1}),
            Arm("both", {"streams": "visual"}, combines=("visual", "cotrain")),
        ]
        experiment = _experiment(*members)
        chosen = {}
        for arm in members:
            (chosen[arm.name],) = arms.candidates(experiment, arm, chosen)
        readers = [name for name, each in chosen.items() if each.reads_titles]
        self.assertEqual(
            readers,
            ["cotrain", "flagged", "words", "rows", "later", "after", "both"],
        )
        for name, trial in chosen.items():
            self.assertEqual(arms.twin(trial) is not None, name in readers)

        # The twin differs in titles alone, also in what it starts from.
        twin = arms.twin(chosen["later"])
        self.assertEqual(twin.run, "later-shuffled")
        self.assertEqual(twin.settings, chosen["later"].settings)
        self.assertEqual(twin.init_from.run, "cotrain-shuffled")
        self.assertTrue(twin.is_twin and twin.init_from.is_twin)
        # What needs no training is looked at in the twin's runs.
        self.assertEqual(arms.twin(chosen["after"]).run, "cotrain-shuffled")
        self.assertEqual(chosen["plain_after"].run, "visual")

    def test_flags(self):
        """Breaks if a command gets another setting than the file has."""
        self.assertEqual(
            arms.flags(
                {
                    "mixed_loss_weight": 0.5,
                    "freeze_backbone": True,
                    "train_word_vectors": False,
                    "preset": "paper",
                }
            ),
            ["--lambda", "0.5", "--freeze_backbone"]
            + ["--no-train_word_vectors", "--preset", "paper"],
        )

    def test_values_that_do_not_fit(self):
        """Breaks if a wrong value, or settings that mean nothing together,
        are found when a run begins."""
        for settings, message in (
            ({"epochs": [2, 0]}, "Arm 'a': Expected --epochs"),
            (
                {"streams": "visual", "word_dropout": 0.5},
                "Arm 'a': --word_dropout leaves out words",
            ),
            ({"logit_adjustment": 1.0}, "Arm 'a': .* do it twice"),
        ):
            arm = Arm("a", settings, {"logit_adjustment": 0.5})
            with self.assertRaisesRegex(ValueError, message):
                arms.candidates(_experiment(arm), arm, {})


if __name__ == "__main__":
    tf.test.main()
