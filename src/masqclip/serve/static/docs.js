// The API, to read: what openapi.json says, without a script from elsewhere.

import * as api from "./api.js";
import { $, make } from "./dom.js";

/** A schema that another one refers to by name. */
function resolved(schema, document) {
  const name = schema?.$ref?.split("/").pop();
  return name ? { title: name, ...document.components.schemas[name] } : schema ?? {};
}

/** What a value may be, in a word or some. */
function kind(schema, document) {
  if (schema.$ref) return schema.$ref.split("/").pop();
  if (schema.anyOf) return schema.anyOf.map((one) => kind(one, document)).join(" or ");
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" or ");
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.type === "array") return `list of ${kind(schema.items ?? {}, document)}`;
  return [schema.type ?? "anything", schema.format ?? schema.contentMediaType].filter(Boolean).join(", ");
}

/** Description in Markdown's simplest form: backquotes are code. */
const prose = (text) => make("p", {}, ...marked(text));

function marked(text) {
  return (text ?? "").split("`").map((part, index) => (index % 2 ? make("code", {}, part) : part));
}

function fields(schema, document) {
  const { properties = {}, required = [] } = resolved(schema, document);
  return make("dl", {}, ...Object.entries(properties).flatMap(([name, field]) => [
    make("dt", {}, make("code", {}, name), ` ${kind(field, document)}${required.includes(name) ? ", needed" : ""}`),
    make("dd", {}, prose(field.description)),
  ]));
}

function contents(heading, content, document) {
  return Object.entries(content ?? {}).flatMap(([type, { schema }]) => {
    const shown = resolved(schema, document);
    const parts = [make("h3", {}, `${heading} (${type})`)];
    if (shown.properties) parts.push(fields(schema, document));
    else if (schema) parts.push(prose(shown.description ?? kind(schema, document)));
    const example = shown.examples?.[0];
    if (example) parts.push(make("pre", { tabIndex: 0 }, JSON.stringify(example, null, 2)));
    return parts;
  });
}

function operation(method, path, about, document) {
  const good = Object.entries(about.responses ?? {}).filter(([status]) => status < 400);
  const bad = Object.keys(about.responses ?? {}).filter((status) => status >= 400);
  const card = make("details", { className: "card" },
    make("summary", {}, make("code", {}, `${method.toUpperCase()} ${path}`), " ", ...marked(about.description)));
  const given = about.parameters ?? [];
  if (given.length) {
    card.append(make("h3", {}, "Parameters"), make("dl", {}, ...given.flatMap((one) => [
      make("dt", {}, make("code", {}, one.name), ` in ${one.in}, ${kind(one.schema ?? {}, document)}`),
      make("dd", {}, prose(one.description)),
    ])));
  }
  card.append(...contents("Request", about.requestBody?.content, document));
  for (const [status, answer] of good) {
    card.append(...contents(`Answer ${status}`, answer.content, document));
    if (answer.description !== "Successful Response") card.append(prose(answer.description));
  }
  if (bad.length) card.append(make("p", {}, `Problems: ${bad.join(", ")}.`));
  return card;
}

function render(document) {
  const tokens = Object.entries(document.components.securitySchemes ?? {}).map(([, scheme]) => {
    const header = scheme.type === "apiKey" ? `${scheme.name}: TOKEN`
      : `Authorization: ${scheme.scheme === "basic" ? "Basic NAME:TOKEN in base64" : "Bearer TOKEN"}`;
    return make("li", {}, make("code", {}, header), " ", ...marked(scheme.description));
  });
  const needed = document.security?.length
    ? "This service needs a token, sent in one of these ways:"
    : "This service needs no token. One that does takes it in one of these ways:";
  const about = document.info.description.split("\n\n").map(prose);
  $("document").replaceChildren(
    make("section", { className: "card" }, ...about),
    make("section", { className: "card" }, make("h2", {}, "Tokens"), make("p", {}, needed), make("ul", {}, ...tokens)),
    ...Object.entries(document.paths).flatMap(([path, methods]) =>
      Object.entries(methods).map(([method, about]) => operation(method, path, about, document))));
  $("status").textContent = `Version ${document.info.version}`;
}

async function start() {
  try {
    render(await api.description());
    $("token-form").hidden = true;
  } catch (error) {
    $("token-form").hidden = error.status !== 401;
    $("status").textContent = error.status === 401 ? "" : error.message;
    if (error.status === 401) $("token").focus();
  }
}

$("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  api.useToken($("token").value);
  start();
});
start();
