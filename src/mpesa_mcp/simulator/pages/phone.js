// Looks again every two seconds until there is a prompt, and touches the page only when there is something new:
// nobody who reads it, or has it read out, is thrown back to its top.
"use strict";

const EVERY_MS = 2000;

async function lookAgain() {
  const shown = document.getElementById("screen");
  if (shown.querySelector(".prompt")) {
    return; // nobody loses the button under their finger
  }
  try {
    const answer = await fetch(window.location.href);
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const now = page.getElementById("screen");
    if (now && now.innerHTML !== shown.innerHTML) {
      shown.innerHTML = now.innerHTML;
      document.title = page.title;
    }
  } catch {
    // The simulator is away; it may come back.
  }
  setTimeout(lookAgain, EVERY_MS);
}

setTimeout(lookAgain, EVERY_MS);
