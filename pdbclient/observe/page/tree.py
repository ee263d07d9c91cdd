"""A page as a tree, whose serializer escapes every text: names and errors come from other machines. Pure."""

from __future__ import annotations

from xml.etree.ElementTree import Element

from pdbclient.observe.terminal import visible

__all__ = ["element"]


def element(tag: str, *children: Element | str, classes: str | None = None, **attributes: str) -> Element:
    """An element with these children; what a text has in it that is not shown, or reorders others, is escaped."""
    made = Element(tag, {name: visible(value) for name, value in attributes.items()})
    if classes is not None:
        made.set("class", classes)
    for child in children:
        if isinstance(child, Element):
            made.append(child)
        elif len(made):
            made[-1].tail = (made[-1].tail or "") + visible(child)
        else:
            made.text = (made.text or "") + visible(child)
    return made
