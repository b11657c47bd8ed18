"""The subject of a hold on the command line: media, or an account of chats, narrowed down or not."""

from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Final

from retentiond.model.errors import UsageError
from retentiond.model.holds import KINDS, HoldSubject, MediaKind, Narrowing
from retentiond.model.text import printable

FLAGS: Final = ", ".join(f"--{kind}" for kind in (*KINDS, "account"))
"""The options that name a subject."""


@dataclass(frozen=True, slots=True)
class Subjects:
    """The subject options; None: not given."""

    media: str | None = None
    user: str | None = None
    origin: str | None = None
    room: str | None = None
    account: str | None = None
    chat: str | None = None
    visitor: str | None = None
    begin: str | None = None
    before: str | None = None

    def read(self) -> HoldSubject | None:
        """Return the subject, or None; raise UsageError for several subjects, or an invalid one."""
        typed: dict[MediaKind, str | None] = {
            "media": self.media,
            "user": self.user,
            "origin": self.origin,
            "room": self.room,
        }
        named = [(kind, text) for kind, text in typed.items() if text is not None]
        if len(named) + (self.account is not None) > 1:
            raise UsageError(f"a hold has one subject: use one of {FLAGS}, and add a hold for each")
        if self.account is not None:
            return HoldSubject("account", self.account, self._narrowed())
        if any(text is not None for text in (self.chat, self.visitor, self.begin, self.before)):
            raise UsageError("--chat, --visitor, --from and --before need --account")
        for kind, text in named:
            try:
                return HoldSubject.read(kind, text)
            except ValueError as error:
                raise UsageError(f"`{printable(text)}` {error}") from None
        return None

    def _narrowed(self) -> Narrowing:
        if self.chat is not None and self.visitor is not None:
            raise UsageError("--chat and --visitor exclude each other; add a hold for each")
        begin = None if self.begin is None else read_day(self.begin)
        before = None if self.before is None else read_day(self.before)
        if begin is not None and before is not None and before <= begin:
            raise UsageError(f"--from {begin} is not before --before {before}; use a later --before")
        return Narrowing(self.chat, self.visitor, begin, before)


def read_day(text: str) -> date:
    """Parse a day such as 2027-01-31; raise UsageError."""
    try:
        day = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC).date()
    except ValueError:
        day = None
    if day is None or day.isoformat() != text:
        raise UsageError(f"`{printable(text)}` is not a valid date; write it as 2027-01-31")
    return day
