"""How names are chosen and renamed: scopes, regular expressions, and OLD=NEW."""

from __future__ import annotations

import re
from dataclasses import dataclass

from orchestrator.errors import WarmStartError

_SCOPE = re.compile(r"[\w./:-]+")


@dataclass(frozen=True)
class Pattern:
    """A scope (whole components, anywhere in a name) or, with any special character, a regular expression.

    `Logits` chooses `Logits/bias` and `net/Logits/bias` and not `Logits_1/bias`;
    `conv_\\d+/` is searched for in the name.
    """

    text: str

    def __post_init__(self) -> None:
        if not self.text:
            raise WarmStartError("an empty pattern chooses nothing; leave it out, or write '.*' for all.")
        try:
            re.compile(self.text)
        except re.error as error:
            raise WarmStartError(f"'{self.text}' is no regular expression: {error}.") from None

    def matches(self, name: str) -> bool:
        """Whether the pattern chooses the name."""
        if _SCOPE.fullmatch(self.text):
            return f"/{self.text.strip('/')}/" in f"/{name}/"
        return re.search(self.text, name) is not None


@dataclass(frozen=True)
class Rename:
    """A rule for the beginning of names in the checkpoint: a scope, or a regular expression with groups.

    `old/scope=new/scope` goes for whole components; `old=` takes a scope away and
    `=new` puts one before every name. With special characters OLD is a regular
    expression that must fit from the first character on, and NEW may hold `\\1`.
    """

    old: str
    new: str
    layout: str = ""
    """One of `layouts.LAYOUTS`, for tensors that this rule renames."""

    def __post_init__(self) -> None:
        try:
            pattern = re.compile(self.old)
            if not self.is_scope:
                _check_template(pattern, self.new)
        except re.error as error:
            raise WarmStartError(f"rename {self}: {error}.") from None

    @staticmethod
    def parse(text: str) -> Rename:
        """Reads OLD=NEW; the last equals sign counts. Raises WarmStartError."""
        old, equals, new = text.rpartition("=")
        if not equals or not (old or new):
            raise WarmStartError(f"rename {text}: not OLD=NEW. Write for example 'net_1/=net/'.")
        return Rename(old, new)

    @property
    def is_scope(self) -> bool:
        return "\\" not in self.new and (not self.old or _SCOPE.fullmatch(self.old) is not None)

    def apply(self, name: str) -> str | None:
        """The new name; None where the rule is not about this name."""
        if not self.is_scope:
            match = re.match(self.old, name)
            return None if match is None else match.expand(self.new) + name[match.end() :]
        old, new = self.old.strip("/"), self.new.strip("/")
        if old and name != old and not name.startswith(f"{old}/"):
            return None
        rest = name[len(old) :].lstrip("/")
        return "/".join(part for part in (new, rest) if part)

    def __str__(self) -> str:
        return f"{self.old}={self.new}"


def _check_template(pattern: re.Pattern[str], template: str) -> None:
    """Raises re.error where the replacement names a group that there is not."""
    for number in re.findall(r"\\(\d+)", template):
        if int(number) > pattern.groups:
            raise re.error(f"there is no group {number} in '{pattern.pattern}'")
