"""Presets, flags and JSON of the configuration."""

import argparse
import contextlib
import dataclasses
import io
import pathlib

import tensorflow as tf
from absl.testing import parameterized

from sicot_tf import config
from sicot_tf import files

_CONFIGS = (
    config.DatasetConfig,
    config.ModelConfig,
    config.TrainConfig,
    config.WorkersConfig,
)


def _parse(config_class, preset, *flags):
    parser = argparse.ArgumentParser()
    config.add_arguments(parser, config_class)
    return config.from_arguments(config_class, parser.parse_args(flags), preset)


class ConfigTest(tf.test.TestCase, parameterized.TestCase):
    @parameterized.product(config_class=_CONFIGS, preset=sorted(config.PRESETS))
    def test_presets_and_json(self, config_class, preset):
        """Breaks if a preset names a setting that does not exist, or a
        config can't be read back from the JSON beside an artefact."""
        value = config.with_preset(config_class, preset)
        path = pathlib.Path(self.get_temp_dir()) / "config.json"
        files.write_json(path, config.to_dict(value))
        self.assertEqual(
            config.from_dict(config_class, files.read_json(path)), value
        )

    def test_the_paper(self):
        """Breaks if the paper preset leaves section 4.1 or 4.3."""
        model = config.with_preset(config.ModelConfig, "paper")
        self.assertEqual(model.backbone, "ResNet50")
        self.assertEqual(model.backbone_weights, "imagenet")
        self.assertEqual(model.neck_dim, 0)
        train = config.with_preset(config.TrainConfig, "paper")
        self.assertEqual(train.global_batch_size, 256)
        self.assertEqual(train.learning_rate, 0.1)
        self.assertEqual(train.decay_rate, 0.8)
        self.assertEqual(train.decay_epochs, 1.0)
        data = config.with_preset(config.DatasetConfig, "paper")
        self.assertEqual(data.drop_frequent_percent, 5.0)
        self.assertEqual(data.drop_rare_percent, 5.0)
        self.assertTrue(data.require_words)

    @parameterized.parameters(
        ({"streams": "visual"}, {"word_dropout": 0.5}, "--streams visual"),
        ({"streams": "visual"}, {"distillation_weight": 1.0}, "cotrain"),
        ({}, {"distillation_weight": 1, "mixed_loss_weight": 0}, "--lambda 0"),
        ({"freeze_backbone": True}, {"distillation_weight": 1.0}, "--neck_dim"),
        ({"title_encoder": "mean", "attention_rank": 2}, {}, "leave them out"),
    )
    def test_settings_that_mean_nothing_together(self, model, train, reason):
        """Breaks if a setting that can't do anything is taken in silence."""
        with self.assertRaisesRegex(ValueError, reason):
            config.check_together(
                config.RunConfig(
                    config.ModelConfig(**model),
                    config.TrainConfig(**train),
                    config.WorkersConfig(),
                )
            )

    def test_settings_that_go_together(self):
        """Breaks if a baseline can't be regularised, or an encoder chosen."""
        for model, train in (
            ({"streams": "visual"}, {"mixup": 0.2, "dropout": 0.5}),
            ({"title_encoder": "bilstm"}, {"word_dropout": 0.5}),
            (
                {"freeze_backbone": True, "neck_dim": 8},
                {"distillation_weight": 1.0},
            ),
        ):
            config.check_together(
                config.RunConfig(
                    config.ModelConfig(**model),
                    config.TrainConfig(**train),
                    config.WorkersConfig(),
                )
            )

    def test_flags_override_the_preset(self):
        """Breaks if a flag is lost, or an unset one hides the preset."""
        found = _parse(
            config.TrainConfig,
            "paper",
            *("--lambda", "0.3", "--shuffle_titles"),
        )
        self.assertEqual(
            found,
            dataclasses.replace(
                config.with_preset(config.TrainConfig, "paper"),
                mixed_loss_weight=0.3,
                shuffle_titles=True,
            ),
        )
        found = _parse(config.DatasetConfig, "paper", "--no-require_words")
        self.assertFalse(found.require_words)
        self.assertEqual(found.drop_rare_percent, 5.0)

    def test_old_flags(self):
        """Breaks if a script of the last version stops, or is not told."""
        with self.assertLogs("sicot_tf.config", "WARNING") as logged:
            found = _parse(
                config.WorkersConfig,
                "demo",
                *("--head", "replicated", "--head_memory=8"),
            )
        self.assertEqual(
            (found.classifier, found.logit_memory), ("replicated", 8)
        )
        first, second = logged.output
        self.assertIn("--head is called --classifier now", first)
        self.assertIn("--head_memory is called --logit_memory", second)
        with contextlib.redirect_stderr(io.StringIO()):
            with self.assertRaises(SystemExit):
                _parse(config.WorkersConfig, "demo", "--head", "halved")
        # Nobody learns them from the help.
        parser = argparse.ArgumentParser()
        config.add_arguments(parser, config.WorkersConfig)
        self.assertNotIn("--head", parser.format_help())
        # An old flag that is not given leaves the preset's value.
        self.assertEqual(
            _parse(config.WorkersConfig, "demo"), config.WorkersConfig()
        )

    def test_unknown_keys_are_errors(self):
        """Breaks if a misspelt setting is silently ignored."""
        with self.assertRaisesRegex(ValueError, r"\['epoch'\]"):
            config.from_dict(config.TrainConfig, {"epoch": 3})
        with self.assertRaisesRegex(ValueError, "Unknown preset 'papr'"):
            config.with_preset(config.TrainConfig, "papr")

    def test_help_can_be_printed(self):
        """Breaks if a help text holds a percent sign argparse trips over."""
        for config_class in _CONFIGS:
            parser = argparse.ArgumentParser()
            config.add_arguments(parser, config_class)
            self.assertIn("default:", parser.format_help())

    def test_help_names_what_presets_override(self):
        """Breaks if help shows a default that the preset does not use."""
        parser = argparse.ArgumentParser()
        config.add_arguments(parser, config.ModelConfig)
        text = " ".join(parser.format_help().split())
        self.assertIn(
            "demo: EfficientNetLite0; recommended: EfficientNetLite0)", text
        )


if __name__ == "__main__":
    tf.test.main()
