"""Tests of word vectors read from files of other programs."""

import bz2
import gzip
import hashlib
import pathlib
import random
import shutil
import struct
import tempfile
import tracemalloc
import unittest

import gensim
import numpy as np

from beam_jobs.words import word_vector_files

_GLOVE = "red 1 2\nblue 3 4\nbag 5 6\n"
_EXPECTED = {"red": [1, 2], "blue": [3, 4], "bag": [5, 6]}


class WordVectorFilesTest(unittest.TestCase):
    def setUp(self):
        self._folder = pathlib.Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self._folder)

    def _write(self, content, name="vectors.txt"):
        if isinstance(content, str):
            content = content.encode("utf-8")
        path = self._folder / name
        path.write_bytes(content)
        return path

    def _read(self, content, name="vectors.txt"):
        path = self._write(content, name)
        rows = word_vector_files.read_word_vectors(path)
        return {word: vector.tolist() for word, vector in rows}

    def _load(self, content, vocabulary, seed=0, **settings):
        path = self._write(content)
        return word_vector_files.load_word_vectors(
            path, vocabulary, seed=seed, **settings
        )

    def test_every_format_and_compression(self):
        """If it fails, a common file is refused or read as garbage."""
        header = "3 2\n"
        binary = b"".join(
            word.encode() + b" " + struct.pack("<2f", *vector) + b"\n"
            for word, vector in _EXPECTED.items()
        )
        # fastText and word2vec.c end each line with a space.
        trailing = _GLOVE.replace("\n", " \n")
        windows = _GLOVE.replace("\n", "\r\n")
        contents = {
            "glove": _GLOVE,
            "word2vec text": header + _GLOVE,
            "fastText": header + trailing,
            "byte order mark, line feeds of Windows": "\ufeff3 2\r\n" + windows,
            "word2vec binary": header.encode() + binary,
        }
        for name, content in contents.items():
            if isinstance(content, str):
                content = content.encode("utf-8")
            for ending, compress in (
                ("", bytes),
                (".gz", gzip.compress),
                (".bz2", bz2.compress),
            ):
                with self.subTest(name, ending=ending):
                    vectors = self._read(compress(content), f"file{ending}")
                    self.assertEqual(vectors, _EXPECTED)

    def test_files_that_gensim_writes(self):
        """If it fails, we differ from the field's own writer."""
        vectors = gensim.models.KeyedVectors(50)
        numbers = np.random.default_rng(0).normal(size=(300, 50))
        words = [f"word{i}" for i in range(299)] + ["手提包"]
        vectors.add_vectors(words, numbers.astype(np.float32))
        for binary in (False, True):
            path = self._folder / f"gensim-{binary}"
            vectors.save_word2vec_format(str(path), binary=binary)
            rows = list(word_vector_files.read_word_vectors(path))
            self.assertEqual([word for word, _ in rows], words)
            np.testing.assert_array_equal(
                [vector for _, vector in rows], vectors.vectors
            )

    def test_words_with_spaces(self):
        """If it fails, phrases shift their numbers, as in gensim."""
        content = "New York 1 2\n. . . 3 4\na\u00a0b 5 6\n\u3000 7 8\n  9 1\n"
        expected = {
            "New York": [1, 2],
            ". . .": [3, 4],
            "a\u00a0b": [5, 6],
            "\u3000": [7, 8],
            " ": [9, 1],
        }
        self.assertEqual(self._read("5 2\n" + content), expected)
        # Without a header the usual number of fields has to win.
        self.assertEqual(self._read(content + _GLOVE), expected | _EXPECTED)

    def test_malformed_and_repeated_lines_are_counted(self):
        """If it fails, one odd line ends the job, or is never heard of."""
        content = (
            b"9 2\nred 1 2\n\xff\xfe 1 2\nshort 1\nbag x 1\nhat nan 1\n"
            b"hat 1e99 1\n\nred 9 9\nblue 3 4\nhat 7 8\nother words 1 2\n"
            b"last 1 2\n"
        )
        vectors, report = self._load(content, ["hat", "red", "bag"])
        np.testing.assert_array_equal(vectors[1:3], [[7, 8], [1, 2]])
        # \xff\xfe is no UTF-8; short; x, nan and 1e99 of wanted words.
        self.assertEqual(report["malformed_lines"], 5)
        self.assertEqual(report["duplicate_lines"], 1)
        # red twice, blue, hat, "other words", last.
        self.assertEqual(report["vectors_in_file"], 6)
        self.assertEqual(report["vectors_promised_by_header"], 9)

    def test_other_files_are_refused(self):
        """If it fails, a wrong file gives random vectors without a word."""
        prose = "It is a truth\nuniversally acknowledged, that a man\n" * 99
        binary = b"9 2\nred " + struct.pack("<2f", 1, 2) + b"blue "
        bad_tail = "2 2\n" + "w 1 2\n" * 150 + "broken\n" * 150
        for content in ("", "\n", prose, "7 3\n" + _GLOVE, binary, bad_tail):
            with self.subTest(content[:20]):
                with self.assertRaisesRegex(ValueError, "Expected word vect"):
                    self._read(content)
        for name, compress in (
            ("a.gz", gzip.compress),
            ("a.bz2", bz2.compress),
        ):
            cut = compress(_GLOVE.encode())[:-9]
            with self.assertRaisesRegex(ValueError, "read to their end"):
                self._read(cut, name)
        with self.assertRaisesRegex(ValueError, "read to their end"):
            self._read(_GLOVE, "a.gz")
        with self.assertRaisesRegex(ValueError, "No such file"):
            list(word_vector_files.read_word_vectors("absent.vec"))
        with self.assertRaisesRegex(ValueError, "guess"):
            self._load(_GLOVE, ["red"], unknown="guess")

    def test_exact_spelling_wins_over_folded(self):
        """If it fails, `Apple` the company stands for the fruit."""
        content = "Apple 1 1\nＢａｇ 2 2\nBAG 3 3\napple 4 4\nSTRASSE 5 5\n"
        vocabulary = ["apple", "bag", "straße", "red"]
        vectors, report = self._load(content, vocabulary, unknown="zero")
        # Row 0 is padding; bag takes the first of two that are alike.
        np.testing.assert_array_equal(
            vectors, np.repeat([[0], [4], [2], [5], [0]], 2, axis=1)
        )
        self.assertEqual(vectors.dtype, np.float32)
        self.assertEqual(
            [report[f"words_{how}"] for how in ("exact", "folded", "zero")],
            [1, 2, 1],
        )
        vectors, _ = self._load(
            content, vocabulary, match="exact", unknown="zero"
        )
        np.testing.assert_array_equal(vectors[:, 0], [0, 4, 0, 0, 0])

    def test_chinese_words_take_the_mean_of_their_pieces(self):
        """If it fails, new compounds start from noise."""
        content = "手 1 0\n提 0 1\n包 3 3\n手提 5 5\n红 7 7\nr 1 1\ne 1 1\n"
        vectors, report = self._load(
            content, ["手提包", "红鞋", "鞋", "re", "包"]
        )
        # 手提 + 包; 红 alone; nothing; letters are no pieces; itself.
        np.testing.assert_array_equal(vectors[1], [4, 4])
        np.testing.assert_array_equal(vectors[2], [7, 7])
        np.testing.assert_array_equal(vectors[5], [3, 3])
        self.assertEqual(report["words_mean_of_characters"], 2)
        self.assertEqual(report["words_random"], 2)
        vectors, _ = self._load(content, ["手提包"], unknown="random")
        self.assertNotEqual(vectors[1].tolist(), [4, 4])

    def test_random_vectors(self):
        """If it fails, a new word in the vocabulary moves all others."""
        generator = np.random.default_rng(0)
        numbers = generator.normal(1.0, 0.5, size=(500, 40))
        content = "".join(
            f"w{i} {' '.join(map(str, row))}\n" for i, row in enumerate(numbers)
        )
        words = [f"new{i}" for i in range(200)]
        vectors, _ = self._load(content, words, seed=3)
        # 8,000 draws: the standard error of the mean is 0.006.
        self.assertAlmostEqual(vectors[1:].mean(), 0.0, delta=0.03)
        self.assertAlmostEqual(vectors[1:].std(), numbers.std(), delta=0.02)
        others, _ = self._load(content, ["w7", "x", "new1", "new0"], seed=3)
        np.testing.assert_array_equal(others[[4, 3]], vectors[[1, 2]])
        others, _ = self._load(content, words, seed=4)
        self.assertFalse(np.any(np.all(others[1:] == vectors[1:], axis=1)))

    def test_random_vectors_are_a_function_of_seed_word_and_file(self):
        """If it fails, two builds of one data set differ."""
        # Components 1 to 6: mean 3.5, variance 35 / 12.
        digest = hashlib.blake2b("7|hat".encode(), digest_size=8).digest()
        generator = np.random.default_rng(int.from_bytes(digest, "big"))
        expected = np.sqrt(35 / 12) * generator.standard_normal(2, np.float32)
        for vocabulary in (["hat"], ["red", "hat", "鞋"]):
            vectors, _ = self._load(_GLOVE, vocabulary, seed=7)
            row = 1 + vocabulary.index("hat")
            np.testing.assert_allclose(vectors[row], expected, rtol=1e-6)
            again, _ = self._load(_GLOVE, vocabulary, seed=7)
            self.assertEqual(vectors.tobytes(), again.tobytes())

    def test_report_of_coverage(self):
        """If it fails, nobody sees that the file is of another language."""
        _, report = self._load(
            _GLOVE,
            ["the", "red", "Blue", "hat"],
            counts=[5, 3, 1, 1],
        )
        self.assertEqual(
            report,
            {
                "file": "vectors.txt",
                "sha256": hashlib.sha256(_GLOVE.encode()).hexdigest(),
                "format": "text without header (GloVe)",
                "dim": 2,
                "vectors_in_file": 3,
                "vectors_promised_by_header": None,
                "malformed_lines": 0,
                "duplicate_lines": 0,
                "match": "folded",
                "unknown": "mean_of_characters",
                "words_exact": 1,
                "words_folded": 1,
                "words_mean_of_characters": 0,
                "words_random": 2,
                "words_zero": 0,
                "share_of_vocabulary_found": 0.5,
                # (3 + 1) of 10.
                "share_of_occurrences_found": 0.4,
            },
        )

    def test_memory_is_bounded_by_the_vocabulary(self):
        """If it fails, a file of 12 million words fills the machine."""
        # 16 MB of text, 8 MB as float32; 20 vectors of it, 8 kB, are kept.
        numbers = " 0.125\n".join([" 0.125" * 99] * 2).partition("\n")[0]
        order = list(range(20_000))
        random.Random(0).shuffle(order)
        path = self._folder / "large.gz"
        with gzip.open(path, "wt", compresslevel=1) as file:
            file.writelines(f"w{i}{numbers}\n" for i in order)
        vocabulary = [f"w{i}" for i in range(20)]
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        vectors, _ = word_vector_files.load_word_vectors(
            path, vocabulary, seed=0
        )
        _, peak = tracemalloc.get_traced_memory()
        self.assertEqual(float(vectors.sum()), 20 * 100 * 0.125)
        self.assertLess(peak, 2_000_000)


if __name__ == "__main__":
    unittest.main()
