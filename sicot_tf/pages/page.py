"""Writes HTML pages: one file each, readable on any screen and printed.

A page needs no network and runs no script: pictures are inlined, and its
content security policy forbids everything else. Whatever a template is given
is escaped.
"""

import pathlib
from typing import Any

import jinja2

from sicot_tf import files
from sicot_tf.pages import pieces

_FOLDER = pathlib.Path(__file__).parent


def write_page(
    path: pathlib.Path | str,
    *,
    template: pathlib.Path,
    title: str,
    **values: Any,
) -> None:
    """Writes a page as a whole.

    Args:
        path: the HTML file.
        template: extends `frame.html.jinja`; lies beside the module whose
            page it is.
        title: of the page.
        **values: what the template shows.
    """
    files.write_text(path, render(template, title=title, **values))


def render(template: pathlib.Path, *, title: str, **values: Any) -> str:
    """The text of a page; see `write_page`."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([template.parent, _FOLDER]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    for each in pieces.FILTERS:
        environment.filters[each.__name__] = each
    return environment.get_template(template.name).render(title=title, **values)
