// Where pictures come from: examples, a file that is chosen, dropped or pasted.

import { $, make } from "./dom.js";

/** Title and names of each example. */
export const EXAMPLES = {
  beach: ["Beach", ["rocket", "tulip", "car", "snake", "stuff: sand"]],
  "night-shore": ["Night shore", ["unicorn", "shark", "crocodile", "dragon", "snowflake", "stuff: sand", "stuff: night sky"]],
  avenue: ["Avenue", ["bank", "chick", "panda", "water buffalo", "stuff: water", "stuff: road", "stuff: autumn leaves"]],
};

/** Whether the names in a text are those of an example. */
export const areOfExample = (text) => Object.values(EXAMPLES).some(([, names]) => text === names.join(","));

/** Listen for pictures: `useFile(file)` takes one, `useExample(key)` an example. */
export function takePictures(useFile, useExample) {
  for (const [key, [title]] of Object.entries(EXAMPLES)) {
    const image = make("img", { src: `static/examples/${key}.png`, alt: "", width: 160, height: 160 });
    const button = make("button", { type: "button", onclick: () => useExample(key) }, image, title);
    $("examples").append(make("li", {}, button));
  }
  $("choose").addEventListener("click", () => $("file").click());
  $("file").addEventListener("change", (event) => {
    useFile(event.target.files[0]);
    event.target.value = "";
  });
  document.addEventListener("paste", (event) => {
    useFile([...event.clipboardData.files].find((file) => file.type.startsWith("image/")));
  });
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    document.body.classList.add("dropping");
  });
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) document.body.classList.remove("dropping");
  });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    document.body.classList.remove("dropping");
    useFile(event.dataTransfer.files[0]);
  });
}
