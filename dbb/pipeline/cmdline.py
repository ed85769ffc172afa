"""Command lines: an ``exec_N`` section becomes an argument list, compiled once per module and filled per quantum.

Nothing goes through a shell. Only what the operator wrote is split into words; values stay whole.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from dbb.errors import PipelineError
from dbb.patch import butler_patch, stored_patch
from dbb.pipeline.listargs import UNSETTLED, Added, PerFile, fixed, settled
from dbb.pipeline.listfiles import ListText
from dbb.pipeline.model import Data, Tree, Value
from dbb.pipeline.scope import Scope
from dbb.pipeline.values import Hole, UnsettledNameError, expand
from dbb.pipeline.words import Template, Word, join_arguments, split_words, written
from dbb.pipeline.workflow import Argument

_PATCH_STYLES: dict[str, Callable[[str], str]] = {"comma": butler_patch, "x": stored_patch}
_POSITIONAL = re.compile(r"_([0-9]{1,4})(?![0-9]).*", re.DOTALL)
HYPHENS: dict[str, Callable[[str], str]] = {
    "allsingle": lambda key: f"-{key}",
    "alldouble": lambda key: f"--{key}",
    "mixed_gnu": lambda key: f"-{key}" if len(key) == 1 else f"--{key}",
}


def compile_command(
    tree: Tree,
    scope: Scope,
    wrapper: Tree,
    *,
    patch_style: str | None = None,
    name: str = "exec_1",
    module: str = "",
    place: Callable[..., object] = lambda *path: None,
) -> Command:
    """Prepare the command line of one exec of a module.

    Parameters
    ----------
    tree
        The ``exec_N`` section.
    scope
        What names mean in the module; those that a quantum brings are its `late` holes.
    wrapper
        The module's ``wrapper`` section, for ``per_file_cmdline`` and ``add_cmdline``.
    patch_style
        ``comma`` or ``x``: how variables and columns named ``patch`` are spelled; None leaves them as they are stored.
    name, module
        The section's name and its module's, for messages.
    place
        Gives the place of a path below the module, such as ``("exec_1", "cmdline", "output")``, for messages.

    Raises
    ------
    PipelineError
        If the section cannot be a command line; names the key and says what was expected.
    """
    if patch_style is not None and patch_style not in _PATCH_STYLES:
        raise PipelineError(f"patch_style = {patch_style}: expected comma or x")
    exec_ = _Exec(tree, _styled(patch_style), name, f"module {module}" if module else "", place)
    with exec_.at("patch_style"):
        scope = _spelled(scope, exec_.patch)
    try:
        template: Template | None = exec_.template(scope)
    except UnsettledNameError:
        template = None
    with exec_.at_wrapper("per_file_cmdline"):
        per_file = PerFile.parse(wrapper.get("per_file_cmdline"), scope, exec_.patch)
    with exec_.at_wrapper("add_cmdline"):
        add = Added.parse(wrapper.get("add_cmdline"), scope, exec_.patch)
    return Command(exec_, scope, template, per_file, add, exec_.args_file(scope))


@dataclass(frozen=True, slots=True)
class Command:
    """The command line of one exec; see `compile_command`.

    Attributes
    ----------
    args_file
        Whether the exec says that its arguments may go to a file.
    """

    _exec: _Exec
    _scope: Scope
    _template: Template | None
    _per_file: PerFile | None
    _add: Added | None
    args_file: bool

    def argv(self, values: Mapping[str, str], lists: Mapping[str, ListText]) -> list[Argument]:
        """Return the program and its arguments for one quantum.

        Parameters
        ----------
        values
            The values of the scope's holes by name.
        lists
            The quantum's lists by name.

        Raises
        ------
        PipelineError
            If a value cannot be used as it is asked for, or a list or column is not there.
        """
        template = self._template or self._settled(values)
        try:
            argv = template.fill(values)
        except PipelineError as error:
            raise self._exec.located(error) from None
        if self._per_file is None and self._add is None:
            return template.prune(argv)
        if self._per_file is not None:
            argv = template.prune(argv)
            try:
                argv += self._per_file.words(values, lists)
            except PipelineError as error:
                raise self._exec.located(error, "per_file_cmdline", of_wrapper=True) from None
        more: list[str] = []
        if self._add is not None:
            with self._exec.at_wrapper("add_cmdline"):
                first, *more = self._add.words(lists)
            argv[-1] = join_arguments(argv[-1], first)  # also to a word that vanishes while it is empty
        return [*(template.prune(argv) if self._per_file is None else argv), *more]

    def _settled(self, values: Mapping[str, str]) -> Template:
        try:
            return self._exec.template(settled(self._scope, values, self._exec.patch))
        except UnsettledNameError:
            raise self._exec.located(PipelineError(UNSETTLED)) from None


@dataclass(frozen=True, slots=True)
class _Exec:
    """One exec section and how to tell where it stands."""

    tree: Tree
    patch: Callable[[str], str] | None
    name: str
    module: str
    place: Callable[..., object]

    def located(self, error: PipelineError, *path: str, of_wrapper: bool = False) -> PipelineError:
        """Return `error` saying that it was met at `path` in this section, or in the module's ``wrapper``."""
        inside = ("wrapper", *path) if of_wrapper else (self.name, *path)
        title = ", ".join((*filter(None, (self.module, self.name)), *(inside if of_wrapper else path)))
        return type(error)(f"{title}: {error.problem}", error.place or self.place(*inside))

    @contextmanager
    def at(self, *path: str) -> Iterator[None]:
        try:
            yield
        except PipelineError as error:
            raise self.located(error, *path) from None

    @contextmanager
    def at_wrapper(self, key: str) -> Iterator[None]:
        try:
            yield
        except PipelineError as error:
            raise self.located(error, key, of_wrapper=True) from None

    def template(self, scope: Scope) -> Template:
        """Compile the words of the program, its options and positional arguments."""
        elements = [self._program(scope)]
        positional: dict[int, list[Word]] = {}
        hyphen = self._hyphen(scope)
        for key, value in self._cmdline().items():
            with self.at("cmdline", key):
                words = _words(value, scope)
                if not key.startswith("_"):
                    elements.append(_option(hyphen(key), words))
                    continue
                number = positional_number(key)
                if number in positional:
                    raise PipelineError(f"there is another positional argument number {number}")
                if _is_flag(words):
                    raise PipelineError("only an option can be a _flag, a positional argument needs a value")
                positional[number] = words
        for number, words in sorted(positional.items()):
            elements.insert(number, words)
        return Template([word for words in elements for word in words or [Word(())]], self.patch)

    def args_file(self, scope: Scope) -> bool:
        """Tell whether the arguments may go to a file."""
        text = self._text("args_file", scope)
        if text is not None and text.lower() not in {"true", "false"}:
            with self.at("args_file"):
                raise PipelineError(f"{text!r}: expected True or False")
        return text is not None and text.lower() == "true"

    def _program(self, scope: Scope) -> list[Word]:
        with self.at("execname"):
            value = self.tree.get("execname")
            if value is None:
                raise PipelineError("there is none: expected the program to run")
            words = _words(value, scope)
            if not words:
                raise PipelineError("it is empty: expected the program to run")
            return words

    def _hyphen(self, scope: Scope) -> Callable[[str], str]:
        text = self._text("cmd_hyphen", scope) or "allsingle"
        if text not in HYPHENS:
            with self.at("cmd_hyphen"):
                raise PipelineError(f"{text!r}: expected allsingle, alldouble or mixed_gnu")
        return HYPHENS[text]

    def _text(self, key: str, scope: Scope) -> str | None:
        value = self.tree.get(key)
        with self.at(key):
            return None if value is None else fixed(written(value), scope).strip()

    def _cmdline(self) -> Tree:
        cmdline = self.tree.get("cmdline", {})
        if not isinstance(cmdline, dict):
            with self.at("cmdline"):
                raise PipelineError("expected a section with the options")
        return cmdline


def positional_number(key: str) -> int:
    """Return the place of a positional argument, from 1 on.

    Raises
    ------
    PipelineError
        If the key is not ``_N`` or ``_N_NAME``.
    """
    match = _POSITIONAL.fullmatch(key)
    if match is None or int(match[1]) == 0:
        raise PipelineError("expected _N or _N_NAME, N a number from 1 on, for a positional argument")
    return int(match[1])


def _words(value: Value, scope: Scope) -> list[Word]:
    if isinstance(value, str) and not isinstance(value, Data):
        return split_words(expand(value, scope).parts)
    return split_words((Data(written(value)),))


def _is_flag(words: Sequence[Word]) -> bool:
    return len(words) == 1 and words[0].parts == ("_flag",) and type(words[0].parts[0]) is str


def _option(name: str, words: list[Word]) -> list[Word]:
    option = Word((name,))
    return [option] if _is_flag(words) else [option, *(words or [Word(())])]


def _styled(patch_style: str | None) -> Callable[[str], str] | None:
    if patch_style is None:
        return None
    spell = _PATCH_STYLES[patch_style]

    @functools.lru_cache(maxsize=65536)
    def styled(text: str) -> str:
        """Spell all patches of ``8,6^8,7``; what is no patch stays as it is."""
        try:
            return "^".join(spell(patch) for patch in text.split("^"))
        except ValueError:
            return text

    return styled


def _spelled(scope: Scope, spell: Callable[[str], str] | None) -> Scope:
    """Return a scope in which a ``patch`` that the operator wrote is spelled as asked for."""
    value = scope.find("patch")
    if spell is None or value is None or isinstance(value, dict | Hole):
        return scope
    return scope.within(patch=Data(spell(fixed("${patch}", scope))))
