"""What a hold is on, as it was typed: one of the subjects of media, or an account of chats, narrowed down or not."""

from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Final

from retentiond.model.errors import UsageError
from retentiond.model.holds import KINDS, HoldSubject, MediaKind, Narrowing
from retentiond.model.text import printable

FLAGS: Final = ", ".join(f"--{kind}" for kind in (*KINDS, "account"))
"""All that a hold can be on."""


@dataclass(frozen=True, slots=True)
class Subjects:
    """All that may be typed; what was not is None."""

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
        """Return what they name, None where nothing; raise UsageError for several, or for what cannot be one."""
        typed: dict[MediaKind, str | None] = {
            "media": self.media,
            "user": self.user,
            "origin": self.origin,
            "room": self.room,
        }
        named = [(kind, text) for kind, text in typed.items() if text is not None]
        if len(named) + (self.account is not None) > 1:
            raise UsageError(f"a hold is on one subject: say one of {FLAGS}, and put on a hold for each")
        if self.account is not None:
            return HoldSubject("account", self.account, self._narrowed())
        if any(text is not None for text in (self.chat, self.visitor, self.begin, self.before)):
            raise UsageError(
                "--chat, --visitor, --from and --before narrow a hold on an account; say --account, too"
            )
        for kind, text in named:
            try:
                return HoldSubject.read(kind, text)
            except ValueError as error:
                raise UsageError(f"`{printable(text)}` {error}") from None
        return None

    def _narrowed(self) -> Narrowing:
        if self.chat is not None and self.visitor is not None:
            raise UsageError("a hold is on one chat or on one visitor; put on a hold for each")
        begin = None if self.begin is None else read_day(self.begin)
        before = None if self.before is None else read_day(self.before)
        if begin is not None and before is not None and before <= begin:
            raise UsageError(f"no day lies from {begin} on and before {before}; write a later --before")
        return Narrowing(self.chat, self.visitor, begin, before)


def read_day(text: str) -> date:
    """Read a day as it was typed; raise UsageError for what is none."""
    try:
        day = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC).date()
    except ValueError:
        day = None
    if day is None or day.isoformat() != text:
        raise UsageError(f"`{printable(text)}` is no day; write it as 2027-01-31")
    return day
