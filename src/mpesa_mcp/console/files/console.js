// Beside htmx: says what a swap brought, to those who do not see it, and keeps the keyboard where it was.
"use strict";

const said = document.getElementById("said");
const SHOWN_FOR_MS = 6000;
let clearing;

function say(text) {
  said.textContent = text;
  clearTimeout(clearing);
  clearing = setTimeout(() => { said.textContent = ""; }, SHOWN_FOR_MS);
}

document.addEventListener("htmx:afterSettle", (event) => {
  const shown = document.getElementById(event.detail.target.id) || event.detail.target;
  if (shown.dataset.said) {
    say(shown.dataset.said);
  }
  if (document.activeElement === document.body && shown.hasAttribute("tabindex")) {
    shown.focus({ preventScroll: true });
  }
});

for (const trouble of ["htmx:responseError", "htmx:sendError", "htmx:timeout"]) {
  document.addEventListener(trouble, () => {
    say("The server did not answer as expected. Load the page again.");
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
