"""What a file may say, and what it is told otherwise."""

import pathlib

import tensorflow as tf
from absl.testing import parameterized

from sicot_tf.experiments import experiment_file

_TOP = """
dataset = "dataset"
baseline = "visual"
"""
_VISUAL = """
[arms.visual]
streams = "visual"
"""


def _read(test, text):
    path = pathlib.Path(test.get_temp_dir()) / "sock.toml"
    path.write_text(text)
    return experiment_file.read(path)


class ExperimentFileTest(tf.test.TestCase, parameterized.TestCase):
    def test_read(self):
        """Breaks if a default, an alias or the order of arms is lost."""
        found = _read(
            self,
            _TOP
            + "train.epochs = 3"
            + _VISUAL
            + "[arms.cotrain]\nlambda = [0.1, 1]\n"
            + "[arms.after]\nof = 'cotrain'\nevaluate.logit_adjustment = 1\n"
            + "[arms.both]\ncombines = ['visual', 'cotrain']\n",
        )
        self.assertEqual(found.name, "sock")
        self.assertEqual(found.output, pathlib.Path("runs/sock"))
        self.assertEqual(found.seeds, (0, 1, 2))
        self.assertEqual(found.choose_seeds, (0,))
        self.assertEqual(found.train, {"epochs": 3})
        self.assertEqual(
            list(found.arms), ["visual", "cotrain", "after", "both"]
        )
        # The flag's name and the field's are one setting.
        self.assertEqual(
            found.arms["cotrain"].settings, {"mixed_loss_weight": [0.1, 1]}
        )
        self.assertEqual(found.arms["after"].evaluate, {"logit_adjustment": 1})
        self.assertEqual(found.arms["both"].stands_on, ["visual", "cotrain"])

    @parameterized.parameters(
        ("dataset = [", "is not valid TOML"),
        (_TOP + "sedes = [1]" + _VISUAL, "Did you mean 'seeds'"),
        (_TOP + "seeds = ['a']" + _VISUAL, "like \\[0, 1, 2\\], received"),
        (_TOP + "seeds = [1, 1]" + _VISUAL, "A seed stands twice"),
        (_TOP + "choose.seeds = 'some'" + _VISUAL, "received 'some'"),
        (_TOP, "at least one arm"),
        ("baseline = 'visual'" + _VISUAL, "Expected a `dataset`"),
        ("dataset = 'd'\nbaseline = 'visul'" + _VISUAL, "received 'visul'"),
        (_TOP + "[arms.a-b]", "'a-b': a name has letters"),
        (
            _TOP + _VISUAL + "[arms.a]\nlearning_rat = 1",
            "Arm 'a': unknown setting 'learning_rat'. Did you mean "
            "'learning_rate'",
        ),
        (_TOP + "train.preset = 'papr'" + _VISUAL, "expected `preset`"),
        (_TOP + _VISUAL + "[arms.a]\npreset = 'paper'", "expected `preset`"),
        (_TOP + _VISUAL + "[arms.a]\nepochs = []", "Arm 'a': expected one"),
        (_TOP + "train.epochs = [1, 2]" + _VISUAL, "Choices stand in arms"),
        (
            _TOP + _VISUAL + "[arms.a]\nlambda = 1\nmixed_loss_weight = 1",
            "Arm 'a' sets 'mixed_loss_weight' twice",
        ),
        (_TOP + _VISUAL + "[arms.a]\nseed = 1", "Arm 'a' sets 'seed'"),
        (
            _TOP + _VISUAL + "[arms.a]\nevaluate.logit_adjust = 1",
            "Arm 'a': .*Did you mean 'logit_adjustment'",
        ),
        (
            _TOP + _VISUAL + "[arms.a]\nof = 'visual'\nepochs = 2",
            "'a' is `of` 'visual', so it trains nothing",
        ),
        (_TOP + _VISUAL + "[arms.a]\nof = 'visual'", "evaluates it as it is"),
        (
            _TOP + _VISUAL + "[arms.a]\ninit_from = 'b'\n[arms.b]",
            "'a' stands on 'b', which is not among the arms above it",
        ),
    )
    def test_mistakes(self, text, message):
        """Breaks if a mistake is found hours later, or its arm not named."""
        with self.assertRaisesRegex(ValueError, message):
            _read(self, text)

    @parameterized.parameters(
        ("[arms.cotrain]\nshuffle_titles = false", "shuffled twin by itself"),
        ("[arms.cotrain]\nreads_titles = false", "can only be true"),
    )
    def test_no_way_around_the_twin(self, text, message):
        """Breaks if a file can leave the control out."""
        with self.assertRaisesRegex(ValueError, message):
            _read(self, _TOP + _VISUAL + text)


if __name__ == "__main__":
    tf.test.main()
