// Beside htmx: says what a swap brought, to those who do not see it, and keeps the keyboard where it was.
"use strict";

const said = document.getElementById("said");
const SHOWN_FOR_MS = 6000;
let clearing;
let told;

// What a swap brought is seen anyway, and told to those who do not see it; trouble is shown, too.
function say(text, isTrouble = false) {
  said.textContent = text;
  said.classList.toggle("unseen", !isTrouble);
  clearTimeout(clearing);
  clearing = setTimeout(() => { said.textContent = ""; said.classList.add("unseen"); }, SHOWN_FOR_MS);
}

// Where the keyboard is in what is about to be swapped.
let keyboard;

document.addEventListener("htmx:beforeSwap", () => {
  const at = document.activeElement;
  keyboard = at === document.body ? undefined : { id: at.id, href: at.getAttribute("href") };
});

// The same thing in what was swapped in; else the whole of it, so that the next Tab goes on from there.
function sameIn(shown) {
  const same = keyboard.id
    ? document.getElementById(keyboard.id)
    : keyboard.href && shown.querySelector(`a[href="${CSS.escape(keyboard.href)}"]`);
  if (!same) {
    shown.setAttribute("tabindex", "-1");
  }
  return same || shown;
}

document.addEventListener("htmx:afterSettle", (event) => {
  const shown = document.getElementById(event.detail.target.id) || event.detail.target;
  // Who waits is told of what is new, and not of every look at it.
  const isRepeated = shown.hasAttribute("hx-trigger") && shown.dataset.said === told;
  if (shown.dataset.said && !isRepeated) {
    say(shown.dataset.said);
    told = shown.dataset.said;
  }
  if (document.activeElement === document.body && keyboard) {
    sameIn(shown).focus({ preventScroll: true });
  }
});

for (const trouble of ["htmx:responseError", "htmx:sendError", "htmx:timeout"]) {
  document.addEventListener(trouble, () => {
    say("The server did not answer as expected. Load the page again.", true);
  });
}

// A choice out of a list or a calendar is complete; what is typed waits for the button or the Enter key.
document.addEventListener("change", (event) => {
  if (event.target.matches(".filters select, .filters input[type=date]")) {
    event.target.form.requestSubmit();
  }
});

const refused = document.getElementById("refused");
if (refused) {
  refused.focus();
}
