"""Pages as a browser sees them."""

import html.parser

# Ends an attribute in either quotes, starts a tag, is an entity.
ATTACK = """'"><script>alert("&amp;")</script><img src=x onerror='alert(1)'>"""


_VOID = ("br", "img", "meta")


class Page(html.parser.HTMLParser):
    """Tags, addresses, texts and names of attributes of a page."""

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.sources, self.texts, self.names = [], [], [], set()
        self.open, self.misplaced = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.names |= {name for name, _ in attrs}
        self.sources += [
            value for name, value in attrs if name in ("src", "href")
        ]
        if tag not in _VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if self.open.pop() != tag:
            self.misplaced.append(tag)

    def handle_data(self, data):
        self.texts.append(data.strip())


def assert_harmless(test, text: str, times: int) -> None:
    """Fails if `ATTACK` became markup, is not shown `times`, or whatever the
    page shows comes from elsewhere; also if tags are not closed in order."""
    page = Page(text)
    test.assertNotIn("script", page.tags)
    test.assertNotIn("onerror", page.names)
    test.assertEqual("\n".join(page.texts).count(ATTACK), times)
    for source in page.sources:
        test.assertStartsWith(source, "data:image/")
    test.assertEqual((page.open, page.misplaced), ([], []))
