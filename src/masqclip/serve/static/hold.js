// What lasts as long as a button, or a key, is held down.

/** Call `change(true)` when a button is pressed, or a key outside of a field, and `change(false)` after. */
export function whileHeld(button, letter, change) {
  let held = false;
  const set = (is) => {
    if (is !== held) change((held = is));
  };
  const onButton = (event) => ["Enter", " "].includes(event.key) && event.target === button;
  const isLetter = (event) => event.key.toLowerCase() === letter;
  button.addEventListener("pointerdown", () => set(true));
  // Nobody tells of a key that is let go while another window has the keyboard.
  for (const end of ["pointerup", "pointercancel", "blur"]) addEventListener(end, () => set(false));
  addEventListener("keydown", (event) => {
    const typing = event.target.matches("input[type=text], input[type=password], select");
    if (onButton(event) || (isLetter(event) && !typing && !event.ctrlKey && !event.metaKey)) set(true);
  });
  addEventListener("keyup", (event) => {
    if (onButton(event) || isLetter(event)) set(false);
  });
}
