"""SKUs on the command line: as arguments, which may begin with a dash, and as cells of a table."""

from __future__ import annotations

import unicodedata
from itertools import islice
from typing import Any

import click

from engine.errors import NotFound
from engine.sku_names import sku_of

HELP = (
    "A SKU that begins with one dash (-5XL) is written like any other, one that begins with two dashes after a --, "
    "and one with spaces in quotes."
)

DASHED = f"{__name__}.dashed"
"""Whether an argument begins with a dash: a key of a context's `meta`."""


class SkuType(click.ParamType[str]):
    """A SKU, in NFC."""

    name = "sku"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            value.encode()
        except UnicodeEncodeError:
            self.fail(f"{value!r} isn't text in UTF-8; check the encoding of the terminal.", param, ctx)
        try:
            return sku_of(value)
        except ValueError as error:
            self.fail(f"{value!r} is no SKU. {error}", param, ctx)


SKU = SkuType()


class SkuCommand(click.Command):
    """A command whose arguments are SKUs.

    A word that begins with one dash and is no option of the command is an argument. A word that begins with two dashes is
    an option, so that a misspelt one is never taken for a SKU; after `--` it is an argument, too.
    """

    def __init__(self, *arguments: Any, **attributes: Any) -> None:
        super().__init__(*arguments, **{"epilog": HELP} | attributes)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        options, names, whole = self._parted(ctx, args)
        ctx.meta[DASHED] = any(name.startswith("-") for name in names)
        try:
            # Where an option lacks its value, click must not take an argument for it.
            return super().parse_args(ctx, [*options, "--", *names] if whole else options)
        except click.NoSuchOption as error:
            where = f"{ctx.command_path} -- {error.option_name}"
            text = f"{error.format_message()} A SKU of that name goes after --: {where}"
            raise click.UsageError(text, ctx) from error

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except NotFound as error:
            if not ctx.meta[DASHED]:
                raise
            known = ", ".join(name for option in self._options(ctx) for name in option.opts)
            raise NotFound(f"{str(error).removesuffix('.')}; options of this command: {known}") from error

    def _parted(self, ctx: click.Context, args: list[str]) -> tuple[list[str], list[str], bool]:
        """The options with their values, the arguments, and whether the last option has its value."""
        takes_value = {name: not option.is_flag for option in self._options(ctx) for name in option.opts}
        options: list[str] = []
        names: list[str] = []
        whole, rest = True, iter(args)
        for word in rest:
            if word == "--":
                names += rest
            elif word in takes_value or word.startswith("--"):
                options.append(word)
                if takes_value.get(word):
                    value = list(islice(rest, 1))
                    whole = bool(value)
                    options += value
            else:
                names.append(word)
        return options, names, whole

    def _options(self, ctx: click.Context) -> list[click.Option]:
        return [parameter for parameter in self.get_params(ctx) if isinstance(parameter, click.Option)]


def columns(text: str) -> int:
    """How many columns of a terminal the text takes: wide characters two, combining marks none."""
    if text.isascii():
        return len(text)
    return sum(map(_columns, text))


def padded(text: str, width: int) -> str:
    """The text, with spaces up to so many columns."""
    return text + " " * (width - columns(text))


def _columns(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
