"""Show docstrings on the site: they are written for Sphinx, as in Airflow, and the site is in Markdown."""

import re
from typing import Any

import griffe

MARKDOWN = (
    (r":\w+:`[^`<]*<~?([\w.]+)>`", r"`\1`"),  # :meth:`text <name>`
    (r":\w+:`~?([^`<]+)`", r"`\1`"),
    (r"\.\. code-block:: \w+\n", ""),  # the code is indented, as in Markdown
    (r"::\n\n", ":\n\n"),
)
SEE_ALSO = re.compile(r"\n*\.\. seealso:: +(\S+)")
FIELDS = re.compile(r"(?=^:\w)|\Z", re.MULTILINE)


class SphinxMarkup(griffe.Extension):
    """Translate the little of Sphinx that the docstrings use, besides fields such as ``:param:``."""

    def on_instance(self, *, obj: griffe.Object | griffe.Alias, **kwargs: Any) -> None:
        if obj.docstring:
            text = obj.docstring.value
            for pattern, replacement in MARKDOWN:
                text = re.sub(pattern, replacement, text)
            links = "".join(f"\n\nSee also <{url}>.\n\n" for url in SEE_ALSO.findall(text))
            obj.docstring.value = FIELDS.sub(links, SEE_ALSO.sub("", text), count=1)
