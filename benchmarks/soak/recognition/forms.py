"""Damaged forms and parameters, and the codes for each."""

import urllib.parse

from benchmarks.soak.recognition.exchange import BOUNDARY
from benchmarks.soak.recognition.exchange import FORM
from benchmarks.soak.recognition.exchange import RECOGNIZE
from benchmarks.soak.recognition.exchange import SEARCH
from benchmarks.soak.recognition.exchange import Exchange
from benchmarks.soak.recognition.exchange import field
from benchmarks.soak.recognition.exchange import form
from benchmarks.soak.recognition.exchange import http
from benchmarks.soak.recognition.exchange import part
from tests.helpers import html_pages


def odd(rng, world):
    """Forms without the photo, with two, with odd names and boundaries."""
    data = rng.choice(world.photos)
    image = field(b"image", data, b"a.jpg")
    name, request, statuses = rng.choice(
        [
            ("none", form(), {400}),
            ("other", form(field(b"top_k", b"3")), {400}),
            ("twice", form(image, image), {400, 422}),
            ("other file", form(field(b"photo", data, b"a.jpg")), {422}),
            ("name", form(field(rng.randbytes(9).hex().encode(), b"1"),
                           image), {422}),
            ("no name", form(part(b"Content-Disposition: form-data", data)),
             {400}),
            ("empty name", form(field(b"", b"1"), image), {422}),
            ("no disposition", form(part(b"X: y", data)), {400}),
            ("no headers", form(part(b"", data)), {400}),
            ("bytes in names", form(field(b"\xff\xfe\0", b"1"), image),
             {400, 422}),
            ("attack", form(field(b"<script>", b"1"), image), {422}),
            ("bad file names", form(field(b"image", data, rng.choice(
                [b"../../x", b"\0", b"\xff", b"a" * 3000, b"", b"\\\\x\\y"])),
            ), {200, 400}),
            ("text", form(field(b"image", b"text")), {415}),
            ("empty", form(field(b"image", b"", b"a.jpg")), {400}),
            ("many fields", form(image, *(
                field(b"x%d" % i, b"1") for i in range(200))), {400, 422}),
            ("long field", form(field(b"box", b"1" * 100_000), image),
             {400, 422}),
            ("long header", form(part(b"X: " + b"a" * 9000, data)), {400}),
            ("many headers", form(part(b"\r\n".join(
                b"X%d: a" % i for i in range(500)), data)), {400}),
            ("type", form(part(
                b'Content-Disposition: form-data; name="image"; '
                b'filename="a"\r\nContent-Type: text/\xff; charset=bad\r\n'
                b"Content-Transfer-Encoding: base64", data)), {200, 400}),
            ("no end", form(image, end=b""), {200, 400}),
            ("cut", form(image[: rng.randrange(len(image))], end=b""),
             {400, 415, 422}),
            ("line ends", form(image.replace(b"\r\n", b"\n")), {400}),
            ("before", form(b"preamble\r\n", image), {200, 400}),
            ("behind", form(image), {200}),
            ("boundary", http(body=b"x", headers=[(b"Content-Type",
             rng.choice([b"multipart/form-data",
                         b"multipart/form-data; boundary=",
                         b'multipart/form-data; boundary="',
                         b"multipart/form-data; boundary=" + b"b" * 5000,
                         b"multipart/form-data; boundary=\xff",
                         b"multipart/form-data; charset=x; boundary=b"]))]),
             {400}),
            ("charset", http(
                body=field(b"image", data, b"a.jpg")
                + b"--" + BOUNDARY + b"--\r\n",
                headers=[(b"Content-Type", FORM + b"; charset=" + rng.choice(
                    [b"nonsense", b"utf-16", b"\xff", b"idna", b"hex"]))]),
             {200, 400}),
            ("other kind", http(body=b"image=x", headers=[
                (b"Content-Type", b"application/x-www-form-urlencoded")]),
             {415}),
            ("nested", http(body=b"x", headers=[
                (b"Content-Type", b"multipart/mixed; boundary=a")]), {415}),
        ]
    )  # fmt: skip
    return Exchange(f"form: {name}", request, frozenset(statuses))


_PRICES = [
    (["0", "-5", "2.5", "1e308", "1e-400"], {200}),
    (["nan", "inf", "-inf", "1e400", "x", "1,5", html_pages.ATTACK], {422}),
    (["１", " 5 ", "1_0"], {200, 422}),
]
# Of the panel only.
_NOT_OF_SEARCH = {"top_k", "search"}
# Values, and what answers them.
_PARAMETERS = {
    "box": [
        (["0,0,10,10", "0,0,999999999,999999999", "5,5,6,6"], {200}),
        (["", "1,2,3", "10,10,5,5", "-1,0,5,5", "nan,0,1,1", "NaN"], {422}),
        (["1e3,0,1,1", "900,0,990,9", "0,0,0,0", "9" * 400], {422}),
        (["0,0,10,10,10", " 0,0,10,10", "0,0,10,10\n", "0;0;9;9"], {422}),
        (["[0,0,10,10]", "0.5,0,9,9", "0,0,10,10\0", "９,9,19,19"], {422}),
        # Digits that are younger than Python's table of them.
        (["\U00010d40,0,9,9", "\U0001e4f0,0,9,9", "\ud800"], {422}),
        (["0,0,9999999999,1", "inf,inf,inf,inf", html_pages.ATTACK], {422}),
    ],
    "top_k": [
        (["1", "100", "7"], {200}),
        (["0", "-1", "101", "1.5", "NaN", "1e400", "9" * 5000, "", "x"], {422}),
        (["true", "0x10", "null", "[1]", "\0", html_pages.ATTACK], {422}),
        (["1_0", "1.0", " 5 ", "+5", "１", "05", "-0"], {200, 422}),
    ],
    "localize": [
        (["true", "false", "0", "1"], {200}),
        (["maybe", "2", "", "nan", "truefalse", "\ud800"], {422}),
        (["TRUE", "yes", " true", "off"], {200, 422}),
    ],
    "category_filter": [
        (["fruit", html_pages.ATTACK, "\0", "可乐", "\ud800"], {200}),
        (["x" * 500, "' OR 1=1", "../..", "%s%n{0}", "\u202e"], {200}),
        (["", "x" * 501, "可" * 5000], {422}),
    ],
    "page": [
        (["1", "10000", "7"], {200}),
        (["0", "-1", "10001", "1.5", "x", "NaN", "9" * 5000], {422}),
    ],
    "page_size": [
        (["1", "100", "20"], {200}),
        (["0", "101", "1e2", "", "\0", html_pages.ATTACK], {422}),
    ],
    "min_price": _PRICES,
    "max_price": _PRICES,
    "tags": [
        (["red", "a,b", ",,,", html_pages.ATTACK, "\0", "\ud800"], {200}),
        (["x" * 501, "可" * 5000], {422}),
    ],
    "ordered_by": [
        (["similarity", "quality"], {200}),
        (["price", "QUALITY", "similarity,quality", "\ud800"], {422}),
    ],
    "search": [
        (["true", "false"], {200}),
        (["maybe", "2", "\ud800"], {422}),
    ],
    "query": [(["x"], {422})],
    "TOP_K": [(["1"], {422})],
    "": [(["1"], {422})],
    html_pages.ATTACK: [(["1"], {422})],
    "image": [(["x"], {422})],
    "__class__": [(["1"], {422})],
    "\ud800": [(["1"], {422})],
}


def parameters(rng, world):
    """Parameters out of range, unknown, repeated; by query and by form."""
    data = rng.choice(world.photos)
    name = rng.choice(list(_PARAMETERS))
    values, statuses = rng.choice(_PARAMETERS[name])
    pair = name, rng.choice(values)
    in_form = rng.random() < 0.3 and name != "image"
    if in_form:
        key, value = (each.encode("utf-8", "surrogatepass") for each in pair)
        request = form(
            field(urllib.parse.quote(key).encode(), value),
            field(b"image", data, b"a.jpg"),
        )
        # As a field it is empty, quoted, or no UTF-8.
        statuses = statuses | {200, 400, 422}
    else:
        pairs = [pair]
        if rng.random() < 0.15:
            pairs, statuses = [pair] * rng.choice([2, 50]), {422}
        # An empty value is none, and counts for nothing.
        if pair[1] == "" and name != "":
            statuses = statuses | {200}
        query = urllib.parse.urlencode(pairs, errors="surrogatepass")
        path = RECOGNIZE
        if name not in _NOT_OF_SEARCH and rng.random() < 0.4:
            path = SEARCH
        request = http(path=path + b"?" + query.encode("ascii"), body=data)
    # More than a request line may be long.
    is_http = len(request.partition(b"\r\n")[0]) < 30_000
    return Exchange(
        f"parameter: {name if name.isidentifier() else 'other'}",
        request,
        frozenset(statuses if is_http else statuses | {400}),
        is_http=is_http,
    )
