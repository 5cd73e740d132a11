"""Pages as a browser sees them."""

import html.parser

# Ends an attribute in either quotes, starts a tag, is an entity.
ATTACK = """'"><script>alert("&amp;")</script><img src=x onerror='alert(1)'>"""


class Page(html.parser.HTMLParser):
    """Tags, addresses, texts and attributes of a page."""

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.sources, self.texts, self.names = [], [], [], set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.names |= {name for name, _ in attrs}
        self.sources += [
            value for name, value in attrs if name in ("src", "href")
        ]

    def handle_data(self, data):
        self.texts.append(data.strip())


def assert_harmless(test, text: str, times: int) -> None:
    """Fails if `ATTACK` became markup, is not shown `times`, or whatever the
    page shows comes from elsewhere."""
    page = Page(text)
    test.assertNotIn("script", page.tags)
    test.assertNotIn("onerror", page.names)
    test.assertEqual("\n".join(page.texts).count(ATTACK), times)
    for source in page.sources:
        test.assertStartsWith(source, "data:image/")
