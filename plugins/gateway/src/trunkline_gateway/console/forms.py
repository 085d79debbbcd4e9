"""The form of a service, drawn from the JSON Schema of its provider's settings, and what people filled in. Pure.

The controls of plain settings are called `s.<setting>`, those of the ways of which one is chosen `w<number>.<setting>`
(two ways may share a setting), and those of the gateway's limits `l.<limit>`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias

import attrs
from trunkline.authoring.json import JSONObject, JSONValue

from trunkline_gateway.console.form_values import inline, list_of, mapping_of, shown, type_of, value_of
from trunkline_gateway.console.providers import InstalledProvider

Kind: TypeAlias = Literal["text", "secret", "select", "number", "list", "table"]

LIMITS: Mapping[str, tuple[str, str]] = {
    "concurrency": ("Calls at the Same Time", "More calls than this wait for their turn."),
    "requests_per_minute": ("Requests per Minute", "Requests wait so that no minute has more, retries included."),
    "tokens_per_minute": ("Tokens per Minute", "Input and output together, estimated before each call."),
}
"""The limits that any service may have."""

_LIMITS_GROUP = "Limits of This Gateway"


@attrs.frozen(kw_only=True)
class Choice:
    """An entry of a list."""

    value: str
    title: str


@attrs.frozen(kw_only=True)
class Field:
    """A control of the form, with what is in it and what is wrong with it."""

    control: str
    setting: str
    label: str
    kind: Kind
    help: str = ""
    default: str = ""
    placeholder: str = ""
    required: bool = False
    advanced: bool = False
    choices: tuple[Choice, ...] = ()
    value: str = ""
    error: str = ""
    stored: str | None = None
    """For a secret that is set: what may be shown of it, as `ServiceState.secrets` has it."""
    suggestions: str = ""
    """The id of a list of suggestions."""

    @property
    def id(self) -> str:
        """The id of the control."""
        return "field-" + self.control.replace(".", "-")


@attrs.frozen(kw_only=True)
class Way:
    """One of several ways to set up a service, such as a kind of credentials."""

    index: int
    title: str
    description: str
    fields: tuple[Field, ...]
    chosen: bool


@attrs.frozen(kw_only=True)
class Group:
    """A heading with its fields. Advanced ones are folded away."""

    title: str
    ways: tuple[Way, ...] = ()
    basic: tuple[Field, ...] = ()
    advanced: tuple[Field, ...] = ()

    @property
    def advanced_errors(self) -> bool:
        """Whether a field that is folded away is wrong."""
        return any(field.error for field in self.advanced)


@attrs.frozen(kw_only=True)
class ServiceForm:
    """The form of a service of one provider."""

    groups: tuple[Group, ...]
    rare: tuple[Group, ...]
    """The groups whose settings are all advanced."""

    @property
    def fields(self) -> list[Field]:
        """All fields, in order."""
        return [
            field
            for group in (*self.groups, *self.rare)
            for fields in (*(way.fields for way in group.ways), group.basic, group.advanced)
            for field in fields
        ]

    @property
    def rare_errors(self) -> bool:
        """Whether a field of the groups that are folded away is wrong."""
        return any(field.error for group in self.rare for field in (*group.basic, *group.advanced))


@attrs.frozen(kw_only=True)
class Submitted:
    """What was filled in: a service's table and secrets, as `Services.save` takes them, and mistakes in the text."""

    table: JSONObject
    secrets: dict[str, str | None]
    texts: Mapping[str, str]
    """The text of each control, to draw the form again."""
    way: int | None
    errors: Mapping[str, str]
    """What is wrong with a setting, by its name."""


def _choices(schema: Mapping[str, JSONValue], value: JSONValue) -> tuple[Choice, ...]:
    default = schema.get("default")
    branches = [mapping_of(branch) for branch in list_of(schema.get("oneOf"))]
    constants = [branch for branch in branches if "const" in branch and branch["const"] != ""]
    if isinstance(value, Mapping):  # such as a profile that is a table
        return ()
    unset = "Not set" if default is None else f"Default ({inline(default)})"
    if constants:
        found = [
            Choice(
                value=shown(branch["const"]),
                title=_with_description(str(branch.get("title") or shown(branch["const"])), branch.get("description")),
            )
            for branch in constants
        ]
        return (Choice(value="", title=unset), *found)
    if type_of(schema) == "boolean":
        unset = "Not set" if default is None else f"Default ({'yes' if default is True else 'no'})"
        return (
            Choice(value="", title=unset),
            Choice(value="true", title="Yes"),
            Choice(value="false", title="No"),
        )
    return ()


def _with_description(title: str, description: object) -> str:
    return f"{title}: {description}".replace("`", "") if description else title


def _kind(schema: Mapping[str, JSONValue], choices: Sequence[Choice], value: JSONValue) -> Kind:
    if schema.get("writeOnly"):
        return "secret"
    if choices:
        return "select"
    if "oneOf" in schema and isinstance(value, Mapping):
        return "table"
    kinds: Mapping[str, Kind] = {"integer": "number", "number": "number", "array": "list", "object": "table"}
    return kinds.get(type_of(schema), "text")


def _placeholder(schema: Mapping[str, JSONValue], kind: Kind) -> str:
    if schema.get("default") is not None and kind != "secret":
        return inline(schema["default"])
    examples = list_of(schema.get("examples"))
    if examples:
        return f"such as {inline(examples[0])}"
    return "Name: value" if kind == "table" else ""


def ways_of(provider: InstalledProvider) -> list[Mapping[str, JSONValue]]:
    """Return the ways to set up a service of which one is chosen, as the schema describes them."""
    return [way for way in map(mapping_of, list_of(provider.schema.get("oneOf"))) if way.get("title")]


def _preset_way(
    ways: Sequence[Mapping[str, JSONValue]], values: Mapping[str, object], secrets: Mapping[str, object]
) -> int:
    """Return the way that the values belong to, or else the one that needs nothing."""
    given = {*values, *secrets}
    for index, way in enumerate(ways):
        if not given.isdisjoint(mapping_of(way.get("properties"))):
            return index
    return next((index for index, way in enumerate(ways) if not list_of(way.get("required"))), 0)


def _required(schema: JSONObject) -> set[str]:
    # Clients of the gateway can name any model of a service as `service/model`.
    return {str(name) for name in list_of(schema.get("required"))} - {"default_model"}


def draw(
    provider: InstalledProvider,
    *,
    values: Mapping[str, JSONValue] | None = None,
    stored: Mapping[str, str] | None = None,
    submitted: Submitted | None = None,
    errors: Mapping[str, str] | None = None,
    read_only: bool = False,
) -> ServiceForm:
    """Draw the form of a provider.

    `values` and `stored` are the table of an existing service and what may be shown of its secrets. `submitted` is
    what was filled in before, which is drawn again with its `errors`, by the name of the setting.
    """
    ways = ways_of(provider)
    chosen = submitted.way if submitted is not None else None
    if chosen is None:
        chosen = _preset_way(ways, values or {}, stored or {})
    drawing = _Drawing(
        schema=provider.schema,
        properties={name: mapping_of(schema) for name, schema in mapping_of(provider.schema.get("properties")).items()},
        ways=ways,
        chosen=chosen,
        values=values or {},
        stored=stored or {},
        submitted=submitted,
        errors=errors or {},
        read_only=read_only,
    )
    groups = drawing.groups()
    # A group whose settings are all advanced is folded away as a whole.
    rare = [Group(title=group.title, basic=group.advanced) for group in groups if not (group.basic or group.ways)]
    limits = limit_fields(mapping_of(drawing.values.get("limits")), submitted, drawing.errors)
    return ServiceForm(
        groups=tuple(group for group in groups if group.basic or group.ways),
        rare=(*rare, Group(title=_LIMITS_GROUP, basic=limits)),
    )


@attrs.frozen(kw_only=True)
class _Drawing:
    """What a form is drawn from: see `draw`."""

    schema: JSONObject
    properties: Mapping[str, Mapping[str, JSONValue]]
    ways: Sequence[Mapping[str, JSONValue]]
    chosen: int
    values: Mapping[str, JSONValue]
    stored: Mapping[str, str]
    submitted: Submitted | None
    errors: Mapping[str, str]
    read_only: bool

    def groups(self) -> list[Group]:
        """Draw the groups that have fields, in the order of the schema."""
        names = sorted(self.properties, key=lambda name: _order(self.properties[name]))
        group_of = {name: str(self.properties[name].get("x-group", "")) for name in names}
        titles = dict.fromkeys([*map(str, list_of(self.schema.get("x-groups"))), *group_of.values()])
        of_ways = {name for way in self.ways for name in mapping_of(way.get("properties"))}
        ways_title = next((group_of[name] for name in names if name in of_ways), "")
        required = _required(self.schema)
        groups: list[Group] = []
        for title in titles:
            under = [name for name in names if group_of[name] == title and name not in of_ways]
            fields = [self.field(name, "s", needed=name in required) for name in under]
            ways = self.drawn_ways() if self.ways and title == ways_title else ()
            if fields or ways:
                basic = sorted((item for item in fields if not item.advanced), key=lambda item: not item.required)
                advanced = tuple(item for item in fields if item.advanced)
                groups.append(Group(title=title or "Settings", ways=ways, basic=tuple(basic), advanced=advanced))
        return groups

    def drawn_ways(self) -> tuple[Way, ...]:
        """Draw the ways to set up a service. Only the chosen one shows its errors."""
        return tuple(
            Way(
                index=index,
                title=str(way.get("title")),
                description=str(way.get("description") or ""),
                fields=tuple(
                    self.field(
                        name, f"w{index}", needed=name in list_of(way.get("required")), shows_error=index == self.chosen
                    )
                    for name in mapping_of(way.get("properties"))
                    if name in self.properties
                ),
                chosen=index == self.chosen,
            )
            for index, way in enumerate(self.ways)
        )

    def field(self, name: str, prefix: str, *, needed: bool, shows_error: bool = True) -> Field:
        """Draw the control of a setting."""
        schema, control = self.properties[name], f"{prefix}.{name}"
        value = self.values.get(name)
        choices = _choices(schema, value)
        kind = _kind(schema, choices, value)
        text = self.submitted.texts.get(control, "") if self.submitted is not None else shown(value)
        return Field(
            control=control,
            setting=name,
            label=str(schema.get("title") or name),
            kind=kind,
            help=str(schema.get("description") or ""),
            default=inline(schema.get("default")) if kind not in ("select", "secret") else "",
            placeholder="" if self.read_only else _placeholder(schema, kind),
            required=needed,
            advanced=bool(schema.get("x-advanced")) and not needed,
            choices=choices,
            value="" if kind == "secret" else text,
            error=self.errors.get(name, "") if shows_error else "",
            stored=self.stored.get(name) if kind == "secret" else None,
            suggestions="offered-models" if name == "default_model" else "",
        )


def _order(schema: Mapping[str, JSONValue]) -> int:
    order = schema.get("propertyOrder")
    return order if isinstance(order, int) else 0


def limit_fields(
    values: Mapping[str, JSONValue], submitted: Submitted | None, errors: Mapping[str, str]
) -> tuple[Field, ...]:
    """Draw the limits that any service may have."""
    return tuple(
        Field(
            control=f"l.{name}",
            setting=name,
            label=label,
            kind="number",
            help=text,
            value=submitted.texts.get(f"l.{name}", "") if submitted is not None else shown(values.get(name)),
            error=errors.get(name, "") or errors.get(f"limits.{name}", ""),
        )
        for name, (label, text) in LIMITS.items()
    )


def read(provider: InstalledProvider, form: Mapping[str, object], *, is_new: bool) -> Submitted:
    """Read what was filled in. Blank settings are left out, and blank secrets of an existing service stay as they are.

    Settings of ways that are not chosen are not set.
    """
    properties = {name: mapping_of(schema) for name, schema in mapping_of(provider.schema.get("properties")).items()}
    texts = {name: value for name, value in form.items() if isinstance(value, str)}
    ways = ways_of(provider)
    way = _chosen_way(texts.get("way", ""), len(ways)) if ways else None
    if ways and way is None:
        way = _preset_way(ways, {}, {})
    needed = _required(provider.schema)
    of_ways = {name for item in ways for name in mapping_of(item.get("properties"))}
    of_way: set[str] = set()
    if way is not None:
        of_way = {*mapping_of(ways[way].get("properties"))}
        needed |= {str(name) for name in list_of(ways[way].get("required"))}
    table: dict[str, JSONValue] = {"provider": provider.name}
    secrets: dict[str, str | None] = {}
    errors: dict[str, str] = {}
    for name, schema in properties.items():
        control = f"w{way}.{name}" if name in of_way else "" if name in of_ways else f"s.{name}"
        text = texts.get(control, "")
        is_blank = not text.strip()
        if schema.get("writeOnly"):
            removed = not control or f"remove.{control}" in texts
            secrets[name] = text if not is_blank else "" if removed or is_new else None
            if name in needed and is_blank and (is_new or removed):
                errors[name] = "Required"
            continue
        if is_blank:
            if name in needed:
                errors[name] = "Required"
            continue
        try:
            table[name] = value_of(schema, text)
        except ValueError as error:
            errors[name] = str(error)
    limits = read_limits(texts)
    if limits:
        table["limits"] = limits
    return Submitted(table=table, secrets=secrets, texts=texts, way=way, errors=errors)


def _chosen_way(text: str, count: int) -> int | None:
    return int(text) if text.isdecimal() and len(text) < 4 and int(text) < count else None


def read_limits(texts: Mapping[str, str]) -> dict[str, JSONValue]:
    """Read the limits that are filled in."""
    number: Mapping[str, JSONValue] = {"type": "number"}
    return {name: value_of(number, texts[f"l.{name}"]) for name in LIMITS if texts.get(f"l.{name}", "").strip()}
