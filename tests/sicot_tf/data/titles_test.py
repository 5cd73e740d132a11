"""Tests of title normalisation and tokenisation."""

import tensorflow as tf

from sicot_tf.data import titles


class TokenizeTest(tf.test.TestCase):
    def _assert_words(self, title, words):
        self.assertEqual(titles.tokenize([title]), [words])

    def test_latin_is_folded_and_split(self):
        """If it fails, spellings of one word get ids of their own."""
        # &amp; is "&", a symbol; full-width letters become ASCII; the sharp s
        # folds to ss; the hyphen is punctuation.
        self._assert_words(
            "Caf\u00e9 &amp; ＡＢＣ１２３ STRASSE straße SK-II",
            ["café", "abc123", "strasse", "strasse", "sk", "ii"],
        )

    def test_decomposed_letters_equal_composed_ones(self):
        """If it fails, NFKC is missing: e + accent is another word than é."""
        self._assert_words("cafe\u0301", ["caf\u00e9"])

    def test_chinese_is_segmented_and_units_stay_whole(self):
        """If it fails, a Chinese title is one word, or 330ML falls apart."""
        self._assert_words(
            "2023新款韩版神仙水330ML！",
            ["2023", "新款", "韩版", "神仙", "水", "330ml"],
        )

    def test_emoji_and_punctuation_are_no_words(self):
        """If it fails, symbols enter the vocabulary."""
        # A family joined by zero-width joiners, a key cap, a flag, a skin
        # tone, and an emoji younger than most Unicode tables.
        self._assert_words("👨\u200d👩\u200d👧 🇩🇪 👍🏻 \U0001fae9 !?… — ★", [])
        self._assert_words(
            "1\ufe0f\u20e3 banana🍌split", ["1", "banana", "split"]
        )

    def test_invisible_characters_vanish(self):
        """If it fails, words that look alike differ."""
        self._assert_words(
            "soft\u00adhyphen word\u2060joiner zero\ufeffwidth zwj\u200dzwnj",
            ["softhyphen", "wordjoiner", "zerowidth", "zwjzwnj"],
        )
        self._assert_words("\x01中文", ["中文"])

    def test_zero_width_spaces_separate(self):
        """If it fails, a Thai or Khmer title is one long word."""
        self._assert_words("กล้อง\u200bสีแดง &#8203;x", ["กล้อง", "สีแดง", "x"])

    def test_entities_are_resolved_however_often_they_were_escaped(self):
        """If it fails, amp and 39 are words."""
        for title in (
            "Tom & Jerry's é mug",
            "Tom &amp; Jerry&#39;s &eacute; mug",
            "Tom &amp;amp; Jerry&amp;#39;s &amp;eacute; mug",
            "Tom &#38;#x26;amp; Jerry&amp;amp;amp;#39;s &amp;eacute mug",
        ):
            self._assert_words(title, ["tom", "jerry", "s", "é", "mug"])
        self._assert_words("AT&T R&D", ["at", "t", "r", "d"])

    def test_tags_are_no_words_and_separate(self):
        """If it fails, br is a word, or two lines become one word."""
        for title, words in {
            "Dress<br/>red <b>silk</b>": "dress red silk",
            "<P class='a>b' title=\"c>d\">one</p><p>two": "one two",
            "&lt;b&gt;bold&lt;/b&gt; &amp;lt;br /&amp;gt;": "bold",
            "a<!-- x > y -->b<STYLE>p {}</style>c<script>d<b></script>e": (
                "a b c e"
            ),
            "<![CDATA[Red bag]]>": "red bag",
            # As H₂O and m² after NFKC.
            "H<sub>2</sub>O 5m<sup>2</sup>": "h2o 5m2",
        }.items():
            self._assert_words(title, words.split())

    def test_what_only_looks_like_a_tag_stays(self):
        """If it fails, words that a reader sees are lost."""
        self._assert_words(
            "5<6 a < b > c <3 I <love> you <new>!",
            ["5", "6", "a", "b", "c", "3", "i", "love", "you", "new"],
        )

    def test_capital_i_with_dot_is_i(self):
        """If it fails, İPHONE is another word than iPhone."""
        self._assert_words("İPHONE I\u0307phone iPhone", ["iphone"] * 3)
        # The small letter without dot is another letter.
        self._assert_words("kılıf", ["kılıf"])

    def test_colours_of_a_terminal_are_no_words(self):
        """If it fails, 31mred is a word."""
        self._assert_words("\x07bell\x1b[31mred\x1b[0m", ["bell", "red"])

    def test_hostile_titles(self):
        """If it fails, one title ends the job, or keeps it for hours."""
        self._assert_words("&" + "amp;" * 100_000 + "lt;b>x", ["x"])
        self._assert_words("&#" + "9" * 5000 + ";x", ["x"])
        self._assert_words("<" * 300_000, [])
        self.assertLen(titles.tokenize(["<!--" * 100_000])[0], 0)
        # An accent above and one below, 500,000 times each; 30 are kept.
        (words,) = titles.tokenize(["a" + "\u0301\u0323" * 500_000])
        self.assertLen(words, 1)
        self.assertLessEqual(len(words[0]), 31)

    def test_every_kind_of_space_separates(self):
        """If it fails, a word may hold a line break and break a file."""
        self._assert_words("a\tb\nc\u00a0d\u3000e\u2028f\x85g", list("abcdefg"))

    def test_other_scripts_split_at_spaces(self):
        """If it fails, combining vowels are lost."""
        self._assert_words("हिन्दी 한국어", ["हिन्दी", "한국어"])

    def test_titles_without_words(self):
        """If it fails, an empty title crashes the job."""
        self.assertEqual(titles.tokenize(["", "  ", "!!!"]), [[], [], []])
        self.assertEqual(titles.tokenize([]), [])

    def test_lone_surrogates_do_not_crash(self):
        """If it fails, one broken JSON escape ends the job."""
        self._assert_words("bad \ud800 end \udc00", ["bad", "end"])

    def test_a_batch_equals_its_titles_one_by_one(self):
        """If it fails, words depend on the batch a title fell into."""
        batch = ["Red Bag", "", "红色 包", "x" * 5000]
        self.assertEqual(
            titles.tokenize(batch),
            [titles.tokenize([title])[0] for title in batch],
        )

    def test_clean_text_joins_surrogate_pairs(self):
        """If it fails, emoji written as two JSON escapes are destroyed."""
        self.assertEqual(titles.clean_text("\ud83d\ude00"), "😀")
        self.assertEqual(titles.clean_text("a\ud83d"), "a\ufffd")


if __name__ == "__main__":
    tf.test.main()
