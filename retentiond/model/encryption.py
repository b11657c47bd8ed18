"""Count the media that an encrypted room may show: those that stay for it, and those that are due all the same."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from retentiond.model.match import uploaded_here
from retentiond.model.mentions import ENCRYPTION
from retentiond.model.policy import Keep
from retentiond.model.protections import ENCRYPTED

if TYPE_CHECKING:
    from collections.abc import Iterator
    from collections.abc import Set as AbstractSet

    from retentiond.model.media import MediaRow
    from retentiond.model.policy import Remove, Rules


@dataclass(slots=True)
class EncryptionCount:
    """By policy, the uploads to this server (True) and the media of other servers that an encrypted room may show."""

    kept: Counter[tuple[str, bool]] = field(default_factory=Counter)
    due: Counter[tuple[str, bool]] = field(default_factory=Counter)

    def add(
        self, row: MediaRow, verdict: Keep | Remove, rules: Rules, mentions: AbstractSet[str] | None
    ) -> None:
        """Count one verdict of `decide`, with the mentions that it had."""
        if verdict.policy is None:
            return
        key = verdict.policy, uploaded_here(row, rules.server_names)
        if isinstance(verdict, Keep):
            self.kept[key] += verdict.reason == ENCRYPTED
        elif mentions and rules.policies[verdict.index].match.asks_mentions:
            self.due[key] += not ENCRYPTION.isdisjoint(mentions)

    def remarks(self) -> Iterator[str]:
        """Yield a sentence for each policy that encrypted media concern."""
        for policy in dict.fromkeys(name for name, _ in (*self.kept, *self.due)):
            for counted, words in (
                (self.kept, "stay, as an encrypted room may show them"),
                (self.due, "are due although an encrypted room may show them, as the configuration accepts"),
            ):
                here, elsewhere = counted[policy, True], counted[policy, False]
                if here or elsewhere:
                    yield f"{policy}: {here:,} uploads to this server and {elsewhere:,} media of other servers {words}"
