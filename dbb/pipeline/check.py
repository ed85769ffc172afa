"""All that is wrong with a pipeline and can be seen in its settings alone: nothing is asked, read or planned."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from dbb.errors import known_names
from dbb.pipeline.check_modules import ModuleCheck
from dbb.pipeline.defaults import prepared
from dbb.pipeline.findings import Findings
from dbb.pipeline.known_keys import KNOWN_KEYS
from dbb.pipeline.levels import LEVEL_KEYS, LevelsError, archive_levels
from dbb.pipeline.model import Pipeline, Problem, Tree, subtree
from dbb.pipeline.scope import Scope
from dbb.pipeline.spelling import misspelt, words_in_use

_SECTIONS = ("block", "module")
_NUMBER = re.compile(r"[0-9]{1,18}")


def static_problems(pipeline: Pipeline) -> list[Problem]:
    """Return everything that is wrong with a pipeline as far as its tree tells, each with its place.

    Errors are what no plan can be made with; warnings are what is probably not meant. A value with variables that only
    a query or a quantum knows is passed over. Modules that no block runs are not looked at.

    Notes
    -----
    Time grows with the size of the tree.
    """
    return static_findings(pipeline).problems


def static_findings(pipeline: Pipeline) -> Findings:
    """Return the same with the names of the modules that have errors."""
    check = _Check(pipeline)
    check.run()
    check.levels()
    check.top()
    check.blocks()
    check.spelling()
    check.findings.problems[:] = dict.fromkeys(check.findings.problems)
    return check.findings


class _Check:
    """The check of one pipeline."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._root = prepared(pipeline.tree)
        self._tree = pipeline.tree
        self._scope = Scope(self._root)
        self.findings = Findings(pipeline)

    def run(self) -> None:
        """Look for what names the run."""
        for key in ("reqnum", "unitname", "attnum"):
            value = self._root.get(key)
            if value is None or isinstance(value, dict):
                self.findings.error(f"{key} is missing: the run has no name without it", key)
                continue
            text = self.findings.text(str(value), self._scope)
            if text is not None and key != "unitname" and _NUMBER.fullmatch(text) is None:
                self.findings.error(f"{key} = {text}: expected a number", key)

    def levels(self) -> None:
        """Look whether the settings of archives fit together."""
        given = {key: self._root[key] for key in LEVEL_KEYS if isinstance(self._root.get(key), str)}
        texts = {key: self.findings.text(str(one), self._scope) for key, one in given.items()}
        known = {key: text for key, text in texts.items() if text is not None}
        if len(known) < len(texts):
            return
        try:
            archive_levels(known)
        except LevelsError as error:
            self.findings.error(str(error), error.key)

    def top(self) -> None:
        """Look for the sections that a plan is made of."""
        for key in _SECTIONS:
            if not subtree(self._tree, key):
                self.findings.error(f"there is no section <{key}>, so there is nothing to plan", key)

    def blocks(self) -> None:
        """Check the modules of all blocks, in the order in which they run."""
        earlier: set[str] = set()
        for block, module in self._running():
            tree = subtree(self._root, "module").get(module)
            if isinstance(tree, dict):
                chosen = {**self._chosen(), "block": block, "module": module}
                ModuleCheck(self.findings, self._root, Scope(self._root, chosen=chosen), frozenset(earlier)).run()
            earlier.add(module)

    def spelling(self) -> None:
        """Warn of keys that are nearly known ones."""
        used = words_in_use(self._tree)
        running = list(self._running(quietly=True))
        self._spelt(self._tree, "top", used)
        for block in dict.fromkeys(block for block, _ in running):
            self._spelt(subtree(self._tree, "block", block), "block", used, "block", block)
        for module in dict.fromkeys(module for _, module in running):
            tree = subtree(self._tree, "module", module)
            self._spelt(tree, "module", used, "module", module)
            for name, inner in tree.items():
                if isinstance(inner, dict) and (name == "wrapper" or name.startswith("exec_")):
                    self._spelt(inner, "exec" if name != "wrapper" else name, used, "module", module, name)
            for kind in ("file", "list"):
                for name, inner in subtree(tree, kind).items():
                    if isinstance(inner, dict):
                        self._spelt(inner, kind, used, "module", module, kind, name)

    def _spelt(self, tree: Tree, kind: str, used: frozenset[str], *path: str) -> None:
        for key, meant in misspelt(tree, KNOWN_KEYS[kind], used):
            text = f"{key} means nothing here, and no ${{{key}}} uses it: did you mean {meant}?"
            self.findings.warning(text, *path, key)

    def _running(self, quietly: bool = False) -> Iterator[tuple[str, str]]:
        """Give blocks with their modules as they run; unless `quietly`, report names that do not exist."""
        found = self.findings if not quietly else Findings(self.findings.pipeline)
        blocks = subtree(self._root, "block")
        for block in self._names("blocklist", self._scope, found, "blocklist"):
            if not isinstance(blocks.get(block), dict):
                near = known_names(block, [*blocks])
                found.error(f"blocklist names {block!r}, but there is no such block{near}", "blocklist")
                continue
            scope = Scope(self._root, chosen={**self._chosen(), "block": block})
            modules = subtree(self._root, "module")
            for module in self._names("modulelist", scope, found, "block", block, "modulelist"):
                if isinstance(modules.get(module), dict):
                    yield block, module
                    continue
                near = known_names(module, [*modules])
                found.error(f"block {block}: there is no module {module!r}{near}", "block", block, "modulelist")

    def _names(self, key: str, scope: Scope, found: Findings, *path: str) -> list[str]:
        value: object = scope.find(key)
        where = f"block {path[1]}: " if len(path) > 1 else ""
        if value is None or isinstance(value, dict):
            found.error(f"{where}{key} is missing", *path)
            return []
        text = found.text(str(value), scope)
        names = found.items(text, *path)
        if text is not None and not names:
            found.error(f"{where}{key} is empty", *path)
        return names

    def _chosen(self) -> Mapping[str, str]:
        texts = {key: self._scope.find(name) for key, name in (("site", "target_site"), ("archive", "home_archive"))}
        return {key: str(value) for key, value in texts.items() if isinstance(value, str) and "$" not in value}
