"""Print the figures by which the project's structure is judged, for one checkout.

    python tools/house.py [CHECKOUT]

docs/architecture.md has the figures of past commits and the aims. Everything is read from the source text with the
standard library: nothing is imported or executed, so any commit can be measured, and each figure means what its
function's docstring says.
"""

from __future__ import annotations

import ast
import re
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import mean, median
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE: Final = "retentiond"
QUARANTINE: Final = (
    "entry",
    "released_media",
    "released_thumbnail",
    "restored",
    "shared_blob",
    "thumbnail_release",
)
"""The tables of the ledger that only the quarantine's own module may write."""
PROTECTIONS: Final = frozenset({"profile_avatars", "room_state", "account_data", "invites"})
KIND_CLASSES: Final = frozenset({"MediaTarget", "ChatTarget", "MediaSettings", "ChatSettings", "PurgesChats"})
KINDS: Final = frozenset({"dendrite_media", "dendrite_rooms", "chat_database"})

_WRITES: Final = re.compile(
    r"\b(?:INSERT\s+INTO|UPDATE|DELETE\s+FROM|MERGE\s+INTO|TRUNCATE(?:\s+TABLE)?)\s+(?:ONLY\s+)?retentiond\.(\w+)",
    re.IGNORECASE,
)
_WRITES_TEMPLATE: Final = re.compile(r"\b(?:INSERT INTO|UPDATE|DELETE FROM) (\{\w+\}\w*)")
_SCHEMA: Final = re.compile(r"(?:schema|migration_\d+)\.sql\Z")
"""Files that define tables: they run before a table has rows, or in a migration."""
_PARAPHRASE: Final = re.compile(r"\b(?:what|whatever|who|whoever|whom|nobody|somebody|none|such(?! as))\b")
"""Pronouns that usually stand where a noun should be; an upper bound, since some sentences need one."""

ONCE: Final = (
    ("retentiond/cli/__init__.py", "main", "execute"),
    ("retentiond/cli/app.py", "execute", "_run"),
    ("retentiond/cli/app.py", "_run", "work"),
    ("retentiond/cli/once.py", "Once.__call__", "run"),
    ("retentiond/cli/session.py", "Session.run", "run_interruptibly"),
    ("retentiond/cli/signals.py", "run_interruptibly", "supervised"),
    ("retentiond/cli/session.py", "Session.for_each", "on_target"),
    ("retentiond/cli/once.py", "Once.__call__.on_target", "run_pass"),
    ("retentiond/targets/dendrite_media/target.py", "DendriteMedia.run_pass", "run_steps"),
    ("retentiond/engine/passes.py", "run_steps", "remove"),
    ("retentiond/targets/dendrite_media/passes/plan.py", "Plan.remove", "run"),
    ("retentiond/targets/dendrite_media/quarantine/removal.py", "Removal.run", "release"),
    ("retentiond/targets/dendrite_media/quarantine/release.py", "Releaser.release", "release"),
    ("retentiond/targets/dendrite_media/quarantine/released_rows.py", "release", "fetch"),
)
"""Our functions on the stack when `retentiond once` deletes a batch of rows: file, function, and the name it calls next.

The frames of asyncio and of the driver are not ours. The list is stated; `frames` checks that each call is there.
"""


@dataclass(frozen=True)
class Module:
    """One Python file: its dotted name, path and text."""

    name: str
    path: Path
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        """The parsed file."""
        return ast.parse(self.text)

    @property
    def is_init(self) -> bool:
        """Whether it is a package's own file."""
        return self.path.name == "__init__.py"

    @property
    def lines(self) -> int:
        """All its lines."""
        return self.text.count("\n")

    @cached_property
    def code_lines(self) -> frozenset[int]:
        """The numbers of its lines without blank lines, comments and docstrings."""
        spoken = {
            number
            for node in ast.walk(self.tree)
            if isinstance(node, ast.Expr)
            and isinstance(node.value, ast.Constant)
            and isinstance(node.value.value, str)
            for number in range(node.lineno, (node.end_lineno or node.lineno) + 1)
        }
        return frozenset(
            number
            for number, line in enumerate(self.text.splitlines(), 1)
            if line.strip() and not line.lstrip().startswith("#") and number not in spoken
        )

    @property
    def import_lines(self) -> int:
        """How many of its code lines are imports."""
        return len({
            number
            for node in ast.walk(self.tree)
            if isinstance(node, ast.Import | ast.ImportFrom)
            for number in range(node.lineno, (node.end_lineno or node.lineno) + 1)
        })  # fmt: skip

    def docstrings(self) -> Iterator[str]:
        """Yield the docstrings of the module, its classes and its functions."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                text = ast.get_docstring(node)
                if text:
                    yield text

    def strings(self) -> set[str]:
        """Return its string constants."""
        return {
            node.value
            for node in ast.walk(self.tree)
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        }

    def kind_tests(self) -> int:
        """Count the places that ask of which kind a target is: isinstance, or a comparison with a kind's name."""
        return sum(map(_asks_kind, ast.walk(self.tree)))


@dataclass(frozen=True)
class House:
    """The source text of one checkout."""

    root: Path

    @cached_property
    def modules(self) -> dict[str, Module]:
        """The modules of the package, by dotted name."""
        found = {}
        for path in sorted((self.root / PACKAGE).rglob("*.py")):
            parts = path.relative_to(self.root).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            found[name] = Module(name, path, path.read_text(encoding="utf-8"))
        return found

    @property
    def rooms(self) -> list[Module]:
        """The modules without the packages' own files."""
        return [module for module in self.modules.values() if not module.is_init]

    @cached_property
    def imports(self) -> dict[str, set[str]]:
        """The modules of ours that each module imports, for types only, too."""
        return {name: set(self._imported(module)) - {name} for name, module in self.modules.items()}

    def _imported(self, module: Module) -> Iterator[str]:
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names if alias.name in self.modules)
            elif isinstance(node, ast.ImportFrom) and node.module:
                for alias in node.names:
                    full = f"{node.module}.{alias.name}"
                    if full in self.modules:
                        yield full
                    elif node.module in self.modules:
                        yield node.module

    def single_importers(self) -> float:
        """Return the share of modules that exactly one other module imports."""
        importers = dict.fromkeys(self.modules, 0)
        for imported in self.imports.values():
            for name in imported:
                importers[name] += 1
        return mean(importers[module.name] == 1 for module in self.rooms)

    def deepest_chain(self) -> int:
        """Return how many modules the longest chain of imports has."""
        depths: dict[str, int] = {}

        def depth(name: str, above: frozenset[str]) -> int:
            if name not in depths:
                below = self.imports[name] - above
                depths[name] = 1 + max((depth(one, above | {name}) for one in below), default=0)
            return depths[name]

        return max(depth(name, frozenset()) for name in self.modules)

    def frames(self) -> tuple[int, int]:
        """Return how many of our functions are on the stack of the DELETE, in how many files; raise ValueError.

        The error names the first function of ONCE that is not there or does not call the next.
        """
        for path, function, called in ONCE:
            module = self.modules.get(_dotted(path))
            found = module and _function(module.tree, function)
            if not found or called not in _names(found):
                raise ValueError(f"{path}: {function} calls no {called}")
        return len(ONCE), len({path for path, _, _ in ONCE})

    @cached_property
    def texts(self) -> list[tuple[Path, str]]:
        """The package's SQL and Python files, by path below the checkout, with their text."""
        return [
            (path.relative_to(self.root), path.read_text(encoding="utf-8"))
            for pattern in ("*.sql", "*.py")
            for path in sorted((self.root / PACKAGE).rglob(pattern))
        ]

    @cached_property
    def writes(self) -> list[tuple[Path, set[str]]]:
        """The tables of the ledger that files write, but for the files that define them."""
        return [
            (path, {table.lower() for table in _WRITES.findall(text)})
            for path, text in self.texts
            if not _SCHEMA.search(path.name)
        ]

    def writers(self, *tables: str) -> list[Path]:
        """Return the files that write one of these tables of the ledger, but for those that define it."""
        return [path for path, written in self.writes if not written.isdisjoint(tables)]

    def written_templates(self) -> dict[str, list[Path]]:
        """Return the files for dendrite's media that write a relation by a name that is put in later, by that name."""
        files: dict[str, list[Path]] = {}
        for path, text in self.texts:
            if "chat_database" not in path.parts and "demo" not in path.parts:
                for name in sorted(set(_WRITES_TEMPLATE.findall(text))):
                    files.setdefault(name, []).append(path)
        return files

    def ledger_tables(self) -> dict[str, list[Path]]:
        """Return the files that write each table of the ledger, but for those that define it."""
        tables = sorted(set().union(*(written for _, written in self.writes)))
        return {table: self.writers(table) for table in tables}

    def borrowed_statements(self) -> list[tuple[str, str]]:
        """Return each module that imports the statements of another, with that other."""
        return [
            (module.name, node.module or "")
            for module in self.rooms
            for node in ast.walk(module.tree)
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
            if alias.name.endswith("SQL")
        ]

    def protection_lists(self) -> list[Path]:
        """Return the files that name at least two of the protections."""
        named = []
        for path, text in self.texts:
            module = self.modules.get(_dotted(str(path))) if path.suffix == ".py" else None
            constants = module.strings() if module else set(re.findall(r"'(\w+)'", text))
            if len(PROTECTIONS & constants) > 1:
                named.append(path)
        return named

    def kind_tests(self) -> list[Module]:
        """Return the modules outside targets/ that ask of which kind a target is, once for each place."""
        outside = [module for module in self.rooms if not module.name.startswith(f"{PACKAGE}.targets")]
        return [module for module in outside for _ in range(module.kind_tests())]

    def paraphrase(self) -> float:
        """Return the share of docstrings that use a pronoun of `_PARAPHRASE`; the value None is none of them."""
        texts = [text for module in self.modules.values() for text in module.docstrings()]
        return mean(bool(_PARAPHRASE.search(text[:1].lower() + text[1:])) for text in texts)

    def words(self, document: str) -> int:
        """Return how many words a document has."""
        path = self.root / document
        return len(path.read_text(encoding="utf-8").split()) if path.exists() else 0

    def python_lines(self, folder: str) -> int:
        """Return how many lines of Python a folder has."""
        return sum(
            path.read_text(encoding="utf-8").count("\n") for path in (self.root / folder).rglob("*.py")
        )


def figures(house: House) -> Iterator[tuple[str, str]]:
    """Yield each figure with its name, in the order of docs/architecture.md."""
    rooms = house.rooms
    code = sum(len(module.code_lines) for module in rooms)
    own = mean(len(house.imports[module.name]) for module in rooms)
    entry, quarantine = house.writers("entry"), house.writers(*QUARANTINE)
    kinds = house.kind_tests()
    yield "modules, without `__init__`", f"{len(rooms)}"
    yield "median module, in lines", f"{median(module.lines for module in rooms):.0f}"
    yield "modules with a single importer", f"{house.single_importers():.0%}"
    yield "own imports of a module", f"{own:.1f}"
    yield "deepest chain of imports", f"{house.deepest_chain()}"
    yield "imports, of lines of code", f"{sum(module.import_lines for module in rooms) / code:.0%}"
    yield "functions from `once` to the DELETE", _frames(house)
    yield "files that write the quarantine's table", _files(entry)
    yield "files that write the tables of released rows, too", _files(quarantine)
    yield (
        "modules that send the statements of another",
        f"{len({one for one, _ in house.borrowed_statements()})}",
    )
    yield "files that list protections", f"{len(house.protection_lists())}"
    yield (
        "tests of a kind outside targets/",
        f"{len(kinds)} in {len({module.name for module in kinds})} files",
    )
    yield "docstrings in paraphrase", f"{house.paraphrase():.0%}"
    yield "words of the README", f"{house.words('README.md'):,}"
    yield "lines of Python", f"{house.python_lines(PACKAGE):,}"
    yield "lines of tests", f"{house.python_lines('tests'):,}"


def _frames(house: House) -> str:
    try:
        frames, files = house.frames()
    except ValueError as error:
        return f"unknown: {error}"
    return f"{frames} in {files} files"


def _files(paths: list[Path]) -> str:
    return f"{len(paths)} in {len({path.parent for path in paths})} folders"


def _dotted(path: str) -> str:
    return path.removesuffix(".py").replace("/", ".").removesuffix(".__init__")


def _function(tree: ast.Module, qualified: str) -> ast.AST | None:
    found: ast.AST | None = tree
    for part in qualified.split("."):
        inner = () if found is None else ast.walk(found)
        found = next((node for node in inner if getattr(node, "name", None) == part), None)
    return found


def _names(node: ast.AST) -> set[str]:
    return {
        one.id if isinstance(one, ast.Name) else one.attr
        for one in ast.walk(node)
        if isinstance(one, ast.Name | ast.Attribute)
    }


def _asks_kind(node: ast.AST) -> bool:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "isinstance":
        return not KIND_CLASSES.isdisjoint(_names(node))
    if isinstance(node, ast.Compare):
        sides = (node.left, *node.comparators)
        return any(isinstance(side, ast.Constant) and side.value in KINDS for side in sides)
    return False


def main(arguments: list[str]) -> None:
    """Print the figures as a table in Markdown."""
    root = Path(arguments[0]) if arguments else Path(__file__).resolve().parent.parent
    rows = [("figure", "value"), ("---", "---"), *figures(House(root))]
    sys.stdout.writelines(f"| {name} | {value} |\n" for name, value in rows)


if __name__ == "__main__":
    main(sys.argv[1:])
