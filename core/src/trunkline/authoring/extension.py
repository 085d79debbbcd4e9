"""Extensions that have settings: `Extension`, and the base class of their settings.

An extension without settings needs neither: the object of its entry point has the hooks itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Generic, TypeVar

import attrs

from trunkline.settings import BaseSettings, settings

E = TypeVar("E", bound="ExtensionSettings")


@settings
class ExtensionSettings(BaseSettings):
    """The base class of an extension's settings. Declare them like a provider's settings, with `setting()`.

    Set `extension` to the extension's name. No setting may be called `name`: in a configuration file, the key `name`
    says which extension a table is for.
    """

    extension: ClassVar[str] = ""

    @classmethod
    def belongs_to(cls) -> tuple[str, str]:
        """Return `"extension"` and the extension's name."""
        return "extension", cls.extension


@attrs.frozen(kw_only=True)
class Extension(Generic[E]):
    """An extension with settings: the object of an entry point in the group `trunkline.extensions`.

    `name` is the name of the entry point. `settings` is the class of its settings, whose `extension` is the same name.
    `make` takes checked settings and returns an object with hook implementations. It is called once for each entry in
    the `extensions` of a service, when the service is created, and must not do I/O. All event loops of the service
    share the object. To keep listing and configuring fast, import the modules that the hooks need inside `make`.
    """

    name: str
    settings: type[E]
    make: Callable[[E], object]
