// A form drawn from a JSON Schema alone. It knows no provider and no setting.
//
// It reads these keywords: `title`, `description`, `type` (the first one is drawn), `oneOf` with `const` (choices),
// `default` and `examples` (placeholders), `writeOnly` (secrets), `required`, `propertyOrder`, `x-group`, `x-groups`
// and `x-advanced`. A `oneOf` of the whole schema is a choice between ways, each with settings of its own.
"use strict";

const schema = {};

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children);
  return made;
}

// Text with `code` in it.
function prose(text) {
  return text.split("`").map((part, index) => (index % 2 ? element("code", {}, part) : part));
}

function help(text) {
  return element("p", { class: "help" }, ...prose(text));
}

function kind(property) {
  return [property.type ?? "string"].flat()[0];
}

function shown(value) {
  if (Array.isArray(value)) return value.join(", ");
  return typeof value === "string" ? value : JSON.stringify(value);
}

function placeholder(property) {
  if (property.default !== undefined) return shown(property.default);
  return property.examples?.length ? `such as ${shown(property.examples[0])}` : undefined;
}

// The choices of a property as pairs of a value and a text, or nothing if it is not a choice.
function choices(property) {
  // A choice without `const` is a value that this form cannot draw, such as a table.
  const constants = property.oneOf?.filter((choice) => "const" in choice);
  const listed = constants?.length ? constants : property.enum?.map((value) => ({ const: value }));
  if (listed) {
    return listed.map((choice) => {
      const title = choice.title ?? shown(choice.const);
      const isDefault = property.default !== undefined && choice.const === "";
      const text = isDefault ? `Default: ${shown(property.default)}` : title;
      return [shown(choice.const), choice.description ? `${text}: ${choice.description}` : text];
    });
  }
  if (kind(property) === "boolean") {
    const unset = property.default === undefined ? "Not set" : `Default: ${property.default ? "yes" : "no"}`;
    return [["", unset], ["true", "Yes"], ["false", "No"]];
  }
  return undefined;
}

function control(name, property) {
  const id = `setting-${name}`;
  const listed = choices(property);
  if (listed) {
    if (!listed.some(([value]) => value === "")) listed.unshift(["", "Choose…"]);
    const select = element("select", { id, name });
    select.append(...listed.map(([value, text]) => element("option", { value }, text.replaceAll("`", ""))));
    select.value = "";
    return select;
  }
  if (kind(property) === "object") return element("textarea", { id, name, rows: 2, placeholder: placeholder(property) ?? "{}" });
  const numeric = { integer: "numeric", number: "decimal" }[kind(property)];
  return element("input", {
    id,
    name,
    type: property.writeOnly ? "password" : "text",
    inputmode: numeric,
    autocomplete: property.writeOnly ? "new-password" : "off",
    placeholder: placeholder(property),
  });
}

function field(name, required) {
  const property = schema.properties[name];
  const drawn = element("div", { class: "field", "data-setting": name });
  drawn.append(element("label", { for: `setting-${name}`, class: required ? "required" : undefined }, property.title ?? name));
  const input = control(name, property);
  if (required) input.setAttribute("aria-required", "true");
  drawn.append(input, help(property.description ?? ""), element("p", { class: "mistake", hidden: true }));
  return drawn;
}

// The fields of these settings, the advanced ones folded away.
function fields(names, isRequired) {
  const advanced = names.filter((name) => schema.properties[name]["x-advanced"]);
  const drawn = names.filter((name) => !advanced.includes(name)).map((name) => field(name, isRequired(name)));
  if (advanced.length) {
    const folded = advanced.map((name) => field(name, isRequired(name)));
    drawn.push(element("details", {}, element("summary", {}, "Advanced"), ...folded));
  }
  return drawn;
}

// The ways of which one is chosen, with the settings of the chosen one.
function waysOf(schema) {
  return (schema.oneOf ?? []).filter((way) => way.title);
}

function drawWays(ways) {
  const parts = [];
  const ofWays = [];
  // The way that requires nothing is what happens without a choice.
  const preset = Math.max(ways.findIndex((way) => !way.required?.length), 0);
  ways.forEach((way, index) => {
    const id = `way-${index}`;
    const radio = element("input", { type: "radio", name: "way", id, value: index });
    radio.checked = index === preset;
    const own = element("div", { class: "fields-of-way", "data-way": way.title });
    own.append(...fields(Object.keys(way.properties ?? {}), (name) => way.required?.includes(name)));
    own.hidden = !radio.checked;
    ofWays.push(own);
    radio.addEventListener("change", () => ofWays.forEach((each, place) => (each.hidden = place !== index)));
    parts.push(element("div", { class: "way" }, radio, element("label", { for: id }, way.title), help(way.description ?? "")));
    parts.push(own);
  });
  return parts;
}

function draw() {
  document.title = schema.title;
  document.querySelector("h1").textContent = schema.title;
  const ways = waysOf(schema);
  const chosenByWay = new Set(ways.flatMap((way) => Object.keys(way.properties ?? {})));
  const names = Object.keys(schema.properties).sort(
    (one, other) => (schema.properties[one].propertyOrder ?? 0) - (schema.properties[other].propertyOrder ?? 0),
  );
  const groupOf = (name) => schema.properties[name].propertyOrder && schema.properties[name]["x-group"];
  const groups = [...new Set([...(schema["x-groups"] ?? []), ...names.map(groupOf)])];
  const place = document.getElementById("groups");
  const folded = element("details", {}, element("summary", {}, "Advanced settings"));
  for (const group of groups) {
    const members = names.filter((name) => groupOf(name) === group);
    const plain = members.filter((name) => !chosenByWay.has(name));
    const isRequired = (name) => schema.required?.includes(name);
    const fieldset = element("fieldset", {}, element("legend", {}, group ?? "Settings"));
    if (plain.length === members.length && plain.every((name) => schema.properties[name]["x-advanced"])) {
      fieldset.append(...plain.map((name) => field(name, isRequired(name))));
      if (plain.length) folded.append(fieldset);
      continue;
    }
    if (plain.length < members.length) fieldset.append(...drawWays(ways));
    fieldset.append(...fields(plain, isRequired));
    place.append(fieldset);
  }
  if (folded.childElementCount > 1) place.append(folded);
}

// The value that a text stands for: that of the chosen entry of a list, JSON for a table, else the text itself.
function valueOf(name, text, isTable) {
  const property = schema.properties[name];
  const chosen = (property.oneOf ?? []).find((choice) => "const" in choice && shown(choice.const) === text);
  if (chosen) return chosen.const;
  if (!isTable || !text.trim()) return text;
  try {
    return JSON.parse(text);
  } catch {
    return text; // the schema refuses it
  }
}

// What is in the fields, blank ones too. Settings of the ways that are not chosen are blank.
function collect() {
  const values = {};
  for (const input of document.querySelectorAll("[data-setting] :is(input, select, textarea)")) {
    const text = input.closest("[hidden]") ? "" : input.value;
    values[input.name] = valueOf(input.name, text, input.tagName === "TEXTAREA");
  }
  return values;
}

function showMistakes(mistakes) {
  for (const place of document.querySelectorAll(".mistake")) place.hidden = true;
  const others = [];
  for (const { setting, message } of mistakes) {
    const place = document.querySelector(`[data-setting="${setting}"] .mistake`);
    if (!place) {
      others.push(message);
      continue;
    }
    place.textContent = message;
    place.hidden = false;
    for (let parent = place.closest("details"); parent; parent = parent.parentElement.closest("details")) parent.open = true;
  }
  const result = document.getElementById("result");
  result.textContent = mistakes.length ? [`${mistakes.length} to correct`, ...others].join(": ") : "Saved";
}

let answers = 0;
document.querySelector("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const answer = await fetch("submit", { method: "POST", body: JSON.stringify(collect()) });
  showMistakes(await answer.json());
  document.getElementById("result").dataset.answer = ++answers;
});

fetch("schema").then(async (answer) => {
  Object.assign(schema, await answer.json());
  draw();
  document.body.dataset.ready = "true";
});
