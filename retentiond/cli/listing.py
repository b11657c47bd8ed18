"""Lists printed item by item, so that memory does not grow with their length."""

import json

from retentiond.cli.streams import Output
from retentiond.model.audit import Finding
from retentiond.model.report import Item, Released
from retentiond.model.text import printable
from retentiond.terminal.words import size_in_words

_URI_LIMIT = 600
_NAME_LIMIT = 120


def write_item(out: Output, item: Item, *, as_json: bool, with_target: bool) -> None:
    """Write an item of a plan: action, reason, policy, size, URI and details, or the same as a line of JSON."""
    if as_json:
        out.put(json.dumps(item.as_json()) + "\n")
        return
    target = f"{printable(item.target):<12} " if with_target else ""
    policy = printable(item.policy or "-")
    out.put(
        f"{target}{item.action:<6} {printable(item.reason):<16} {policy:<16} "
        f"{size_in_words(item.bytes):>10}  {'  '.join(filter(None, (printable(item.media, _URI_LIMIT), item.details())))}\n"
    )


def write_finding(out: Output, target: str, finding: Finding, *, as_json: bool, with_target: bool) -> None:
    """Write a finding of an audit: kind, size, path, URI and details, or the same as a line of JSON."""
    if as_json:
        out.put(json.dumps(finding.as_json(target)) + "\n")
        return
    shown = f"{printable(target):<12} " if with_target else ""
    words = [
        printable(finding.path, _URI_LIMIT),
        printable(finding.media or "", _URI_LIMIT),
        printable(finding.detail, _NAME_LIMIT),
    ]
    out.put(
        f"{shown}{finding.kind:<23} {size_in_words(finding.bytes):>10}  {'  '.join(word for word in words if word)}\n"
    )


def write_heading(out: Output, *, with_target: bool) -> None:
    """Write the heading of `write_released`."""
    target = f"{'target':<12} " if with_target else ""
    out.put(
        f"{target}{'pass':>6}  {'state':<12} {'until':<16} {'policy':<16} {'size':>10}  media, type, name, (asked again until the purge)\n"
    )


def write_released(out: Output, target: str, released: Released, *, with_target: bool) -> None:
    """Write a deleted row that can be restored."""
    shown = f"{target:<12} " if with_target else ""
    words = [
        printable(released.media, _URI_LIMIT),
        printable(released.content_type, _NAME_LIMIT),
        printable(released.upload_name, _NAME_LIMIT),
        f"({printable(released.released_for, _NAME_LIMIT)})" if released.released_for else "",
    ]
    out.put(
        f"{shown}{released.pass_id:>6}  {printable(released.state):<12} "
        f"{released.grace_until.astimezone():%Y-%m-%d %H:%M} {printable(released.policy):<16} "
        f"{size_in_words(released.bytes):>10}  {'  '.join(word for word in words if word)}\n"
    )


class JsonList:
    """A JSON document `{NAME: [...]}`, written item by item."""

    def __init__(self, out: Output, name: str) -> None:
        self._out = out
        self._begun = False
        out.put(f"{{{json.dumps(name)}: [")

    def add(self, value: object) -> None:
        """Write one more."""
        self._out.put(("," if self._begun else "") + "\n" + json.dumps(value))
        self._begun = True

    def close(self) -> None:
        """End the document."""
        self._out.put("\n]}\n" if self._begun else "]}\n")
