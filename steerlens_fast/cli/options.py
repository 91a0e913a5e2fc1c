"""Makes command-line options from the fields of configurations, and parses them."""

from __future__ import annotations

import argparse
import dataclasses
import shlex
import sys
from collections.abc import Callable, Mapping
from itertools import takewhile

from ..checks import did_you_mean
from ..errors import USAGE
from ..io.argument_types import expanded_path, integer_from
from ..io.base_config import declared_fields
from ..io.console import write_stdout

OTHER_NAMES = {"--model": "--driver", "--driver": "--model"}  # names of the same option in different commands


class CommandParser(argparse.ArgumentParser):
    """A parser that adds its options when it is first used.

    So configurations are imported only for the command that runs.

    Parameters
    ----------
    add_options : callable, optional
        Called with the parser before it parses for the first time.
    """

    def __init__(self, *args, add_options: Callable[[argparse.ArgumentParser], None] | None = None, **kwargs):
        super().__init__(*args, **kwargs)
        self._add_options = add_options

    def parse_known_args(self, args=None, namespace=None):
        """Add the options, then parse as :class:`argparse.ArgumentParser` does.

        Unknown arguments are errors of this parser, so that a subcommand names itself.
        """
        if self._add_options is not None:
            add_options, self._add_options = self._add_options, None
            add_options(self)
        args = sys.argv[1:] if args is None else list(args)
        namespace, unknown = super().parse_known_args(args, namespace)
        if unknown:
            suggestion = self._suggestion(unknown, args, data_given="data" in namespace)
            self.error(f"unrecognized arguments: {' '.join(unknown)}{suggestion}")
        return namespace, unknown

    def error(self, message):
        """Exit with a message and a hint. argparse would print all options first."""
        self.exit(USAGE, f'{self.prog}: error: {message}\nsee "{self.prog} --help"\n')

    def _suggestion(self, unknown: list[str], args: list[str], data_given: bool) -> str:
        """Return the end of a message about unknown arguments.

        For an unknown option it suggests a similar one. For another word it suggests --data, or to join the word to the
        value before it.
        """
        options = [option for action in self._actions for option in action.option_strings]
        word = next((word for word in unknown if word.startswith("-")), unknown[0])
        if not word.startswith("-"):
            is_data = "--data" in options and not data_given
            return f"; did you mean --data {word}?" if is_data else self._joined(unknown, args)
        word = word.partition("=")[0]
        if OTHER_NAMES.get(word) in options:
            return f"; did you mean {OTHER_NAMES[word]!r}?"
        containing = [option for option in options if word.startswith("--") and word[2:] in option]
        return f"; did you mean {containing[0]!r}?" if len(containing) == 1 else did_you_mean(word, options)

    def _joined(self, unknown: list[str], args: list[str]) -> str:
        """Return the suggestion for arguments such as --target Egyptian cat, or --families pixel fourier."""
        at = len(args) - 1 - args[::-1].index(unknown[0])
        option, value = args[at - 2 : at] if at > 1 else ("", "")
        action = next((action for action in self._actions if option in action.option_strings), None)
        if action is None or value.startswith("-"):
            return ""
        values = [value, *takewhile(unknown.__contains__, args[at:])]
        text = ",".join(values) if "," in str(action.metavar) else " ".join(values)
        return f"; did you mean {option} {shlex.quote(text)}?"

    def _print_message(self, message, file=None):
        """Print help and version like other text on stdout. argparse would ignore errors in writing them."""
        if message and file is not None and file is sys.stdout:
            write_stdout(message.removesuffix("\n"))
        else:
            super()._print_message(message, file)


class OptionGroups:
    """The groups of options in a command's help text.

    Parameters
    ----------
    parser : ArgumentParser
    titles : mapping from str to str
        The title of each group, in the order of the help text. The keys are the names of groups that the
        fields of configurations have (``option(group=...)``).
    """

    def __init__(self, parser: argparse.ArgumentParser, titles: Mapping[str, str]):
        self._groups = {name: parser.add_argument_group(title) for name, title in titles.items()}

    def add(self, group: str, *flags: str, **argument) -> None:
        """Add an option that is not a field of a configuration."""
        self._groups[group].add_argument(*flags, **argument)

    def add_folder(self, group: str, what: str) -> None:
        """Add ``--out``, which is required."""
        self.add(group, "--out", required=True, type=expanded_path, metavar="DIR", help=f"folder of the {what}")

    def add_fields(self, config: type, only: tuple[str, ...] | None = None, help: Mapping[str, str] | None = None):
        """Add an option for each field of a configuration that has a group.

        Parameters
        ----------
        config : dataclass
            Fields are declared with :func:`steerlens_fast.io.base_config.option`.
        only : tuple of str, optional
            Names of the fields to add; by default all.
        help : mapping from str to str, optional
            Help texts by field, which replace those of the fields.
        """
        for field in declared_fields(config):
            if "group" in field.metadata and (only is None or field.name in only):
                text = (help or {}).get(field.name, field.metadata["help"])
                self._groups[field.metadata["group"]].add_argument(_flag(field), **_arguments(field, text))


def as_sentence(help: str) -> str:
    """Return a command's short help as a sentence.

    Examples
    --------
    >>> as_sentence("print the progress")
    'Print the progress.'
    """
    return f"{help[0].upper()}{help[1:]}."


def given_fields(config: type, arguments: argparse.Namespace) -> dict:
    """Return the fields of a configuration that were given on the command line."""
    values = vars(arguments)
    return {field.name: values[field.name] for field in dataclasses.fields(config) if field.name in values}


def _flag(field: dataclasses.Field) -> str:
    return field.metadata.get("flag", "--" + field.name.replace("_", "-"))


def _arguments(field: dataclasses.Field, text: str) -> dict:
    """Return the keyword arguments of ``add_argument`` for a field."""
    metadata, default = field.metadata, field.default
    copied = ("metavar", "type", "choices", "nargs", "action")
    arguments = {name: metadata[name] for name in copied if name in metadata}
    if isinstance(default, bool):
        arguments["action"] = "store_true"
    elif isinstance(default, (str, int, float)) and "default" not in text:
        text += f" (default: {default})"
    if "minimum" in metadata:
        arguments["type"] = integer_from(metadata["minimum"])
    return arguments | {"dest": field.name, "help": text.replace("%", "%%")}
