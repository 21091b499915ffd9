"""A plug-in as a config names it, with its settings beside its name."""

from __future__ import annotations

from typing import Any, ClassVar, Self

from pydantic import ConfigDict, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from recdistill.config.sections import Section
from recdistill.plugins import Choice, Kind, find, load
from recdistill.problems import guess


class PluginChoice(Section):
    """`use` names the plug-in; its own settings stand beside it. A plain string is the name alone."""

    model_config = ConfigDict(extra="allow", frozen=True)
    kind: ClassVar[Kind]
    use: str

    @model_validator(mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        return {"use": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _fits(self) -> Self:
        known = list(find(self.kind))
        if self.use not in known:
            remedy = guess(self.use, known) or "`recdistill recipes` lists them"
            context = {"kind": self.kind, "known": ", ".join(known), "found": self.use, "remedy": remedy}
            raise PydanticCustomError("plugin", "wanted one of {kind} ({known}), found '{found}'; {remedy}", context)
        try:
            self.choice()
        except ValidationError as error:
            found = ", ".join(f"{'.'.join(map(str, e['loc']))} ({e['msg']})" for e in error.errors())
            takes = ", ".join(load(self.kind, self.use).parameters) or "none"
            context = {"use": self.use, "takes": takes, "found": found}
            message = "wanted settings of {use}, which takes {takes}, found {found}; mend or drop them"
            raise PydanticCustomError("settings", message, context) from None
        return self

    def choice(self) -> Choice:
        """The plug-in itself, with its settings."""
        plugin = load(self.kind, self.use)
        return Choice(plugin=plugin, settings=plugin.settings(self.model_extra or {}))
