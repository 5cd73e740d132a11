"""Pieces of HTML of the statistics page: tables, bars, numbers."""

import base64
import html
import pathlib
from collections.abc import Iterable
from collections.abc import Sequence

# Beside the style of `page`: head, tail and what they share have the colours
# of the plots.
STYLE = """<style>
.tiles { display: grid; gap: .8rem; margin: 1.5rem 0;
  grid-template-columns: repeat(auto-fit, minmax(13rem, 1fr)); }
.tiles div { background: var(--soft); border-radius: 8px; padding: .7rem 1rem; }
.tiles b { display: block; font-size: 1.6rem; line-height: 1.3;
  font-variant-numeric: tabular-nums; }
.tiles span { font-size: .85rem; opacity: .85; }
.beside { display: flex; flex-wrap: wrap; gap: 0 2rem; align-items: center; }
.beside figure { flex: 3 1 24rem; } .beside > div { flex: 1 0 auto; }
.finding + .finding { margin-top: .8rem; }
.bar { display: flex; height: 1.1rem; border-radius: 4px; overflow: hidden;
  background: var(--soft); }
.bar i { display: block; min-width: 1px; }
.head { background: #0072b2; } .tail { background: #e69f00; }
.both { background: #009e73; } .rest { background: #8886; }
.key { font-size: .9rem; } .key i { display: inline-block; width: .8rem;
  height: .8rem; border-radius: 3px; margin: 0 .3rem 0 1rem;
  vertical-align: -1px; }
.key i:first-child { margin-left: 0; }
.ranking { columns: 3 15rem; column-gap: 2rem; list-style: none; padding: 0; }
.ranking li { display: grid; grid-template-columns: 6.5rem 1fr 4rem;
  gap: .5rem; align-items: center; font-size: .9rem; break-inside: avoid;
  line-height: 1.7; }
.ranking span { overflow: hidden; text-overflow: ellipsis;
  white-space: nowrap; }
.ranking .bar { height: .7rem; background: none; }
.ranking em { font-style: normal; text-align: right;
  font-variant-numeric: tabular-nums; }
.sheet { display: grid; gap: .8rem;
  grid-template-columns: repeat(auto-fill, minmax(18rem, 1fr)); }
.sheet div { background: var(--soft); border-radius: 8px; padding: .6rem .8rem;
  border-top: 4px solid #e69f00; break-inside: avoid; }
.sheet .of-head { border-color: #0072b2; }
.sheet img { width: 4.6rem; height: 4.6rem; object-fit: contain;
  background: #fff; border-radius: 4px; margin: .4rem .3rem 0 0; }
.sheet b { overflow-wrap: anywhere; } .sheet small { opacity: .85; }
.numbers :is(td, th):nth-child(n+2) { text-align: right; }
.compared tbody tr:first-child { font-weight: 600;
  background: var(--soft); }
</style>
"""


def figure(name: str, caption: str, plots: pathlib.Path) -> str:
    """A plot of the folder, inlined, with its caption."""
    encoded = base64.b64encode((plots / f"{name}.svg").read_bytes())
    uri = f"data:image/svg+xml;base64,{encoded.decode('ascii')}"
    return (
        f"<figure>{image(uri, caption)}<figcaption>{html.escape(caption)}"
        "</figcaption></figure>\n"
    )


def image(data_uri: str | None, text: str) -> str:
    """A picture, or what is missing."""
    if not data_uri:
        return f"<small>no picture: {html.escape(text)}</small>"
    text = html.escape(text)
    return f'<img src="{data_uri}" alt="{text}" title="{text}">'


def table(
    header: Sequence[str], rows: Iterable[Sequence[str]], kind: str = ""
) -> str:
    """A table with a name and numbers in each row."""
    head = "".join(f'<th scope="col">{html.escape(cell)}' for cell in header)
    body = ""
    for row in rows:
        cells = "".join(f"<td>{html.escape(cell)}" for cell in row)
        body += f"<tr>{cells}</tr>\n"
    return (
        f'<div class="scroll"><table class="numbers {kind}">'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>\n"
    )


def bar(parts: Sequence[tuple[str, int]], total: int) -> str:
    """A bar of coloured parts."""
    pieces = "".join(
        f'<i class="{kind}" style="width:{100 * size / max(1, total):.2f}%">'
        "</i>"
        for kind, size in parts
        if size
    )
    return f'<div class="bar">{pieces}</div>'


def key(parts: Sequence[tuple[str, str]]) -> str:
    """What the colours of a bar mean."""
    names = "".join(
        f'<i class="{kind}"></i>{html.escape(name)}' for kind, name in parts
    )
    return f'<p class="key">{names}</p>\n'


def beside(plot: str, content: str) -> str:
    """A figure with what belongs to it on its right, where there is room."""
    return f'<div class="beside">{plot}<div>{content}</div></div>\n'


def note(text: str) -> str:
    """A paragraph in small print."""
    return f'<p class="note">{html.escape(text)}</p>\n'


def number(value: float | None) -> str:
    """A number as people read it; `-` for None."""
    if value is None:
        return "-"
    if value == int(value):
        return f"{value:,.0f}"
    return f"{value:,.2f}" if value < 10 else f"{value:,.1f}"


def percent(value: float | None) -> str:
    """A fraction as percent; `-` for None."""
    return "-" if value is None else f"{100 * value:.1f} %"


def count(number: int, name: str, plural: str = "s") -> str:
    """A number with its noun."""
    return f"{number:,} {name}{plural if number != 1 else ''}"


def quantile(percent: str) -> str:
    """What a quantile is called, by its percent."""
    names = {"0": "smallest", "50": "median", "100": "largest"}
    return names.get(percent, f"{percent} %")
