// The token of an invitation stays in this page: it is read from behind the #, and sent to the API alone.
"use strict";

let token = "";

const form = document.getElementById("invitation");
const said = document.getElementById("answer");

function say(text, isRefused) {
  said.textContent = text;
  said.className = isRefused ? "notice bad" : "notice good";
  said.hidden = false;
}

// What the API says; an error carries its sentence.
async function ask(what, body) {
  const answer = await fetch(`/api/v1/auth/invitations/${what}`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ token, ...body }),
  });
  const told = await answer.json();
  if (!answer.ok) {
    throw new Error(told.error.message);
  }
  return told;
}

async function show() {
  token = window.location.hash.slice(1);
  window.history.replaceState(null, "", window.location.pathname);
  form.hidden = true;
  if (!token) {
    throw new Error("This link is not complete. Open it as it was sent to you, or ask for a new one.");
  }
  const invited = await ask("read", {});
  document.getElementById("organization").textContent = invited.organization;
  document.getElementById("email").value = invited.email;
  said.hidden = true;
  form.hidden = false;
}

function begin() {
  show().catch((refused) => say(refused.message, true));
}

begin();
// A link that is pasted into this same page changes what is behind the # alone, and loads nothing.
window.addEventListener("hashchange", begin);

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const password = document.getElementById("password").value;
  if (password !== document.getElementById("again").value) {
    say("The two passwords differ.", true);
    return;
  }
  const button = form.querySelector("button");
  button.disabled = true;
  try {
    const user = await ask("accept", { password });
    form.hidden = true;
    document.getElementById("heading").textContent = "You are in";
    say(`Done. You can sign in as ${user.email}.`, false);
  } catch (refused) {
    button.disabled = false;
    say(refused.message, true);
  }
});
