// What the page tells of its work: the status, whether something is on its way, and errors.

import { $ } from "./dom.js";

// `again` is what is to be tried again; `told` whether it is a request whose failure is shown.
let again = null, told = false;

export function tell(text) { $("status").textContent = text; }
export function busy(is) { $("busy").hidden = !is; }

export function fail(text, retry = null) {
  $("error-text").textContent = text;
  again = retry;
  told = false;
  $("retry").hidden = !retry;
  $("error").hidden = !text;
}

/** Tell that a request failed: until another one is answered. */
export function failRequest(text, retry) {
  fail(text, retry);
  told = true;
}

/** A request was answered: one that failed before is done with. */
export function answered() {
  if (told) fail("");
}

$("dismiss").addEventListener("click", () => fail(""));
$("retry").addEventListener("click", () => {
  const retry = again;
  fail("");
  retry();
});
