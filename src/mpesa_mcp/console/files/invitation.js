// The token of an invitation stays in this page: it is read from behind the #, and sent to the API alone.
"use strict";

const token = window.location.hash.slice(1);
window.history.replaceState(null, "", window.location.pathname);

const form = document.getElementById("invitation");
const said = document.getElementById("answer");

function say(text, isRefused) {
  said.textContent = text;
  said.className = isRefused ? "notice bad" : "notice good";
  said.hidden = false;
}

async function accept(password) {
  const answer = await fetch("/api/v1/auth/invitations/accept", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ token, password }),
  });
  const body = await answer.json();
  if (!answer.ok) {
    throw new Error(body.error.message);
  }
  return body;
}

if (!token) {
  form.hidden = true;
  say("This link is not complete. Open it as it was sent to you, or ask for a new one.", true);
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const password = document.getElementById("password").value;
  if (password !== document.getElementById("again").value) {
    say("The two passwords differ.", true);
    return;
  }
  form.querySelector("button").disabled = true;
  try {
    const user = await accept(password);
    form.hidden = true;
    say(`Done. You can sign in as ${user.email}.`, false);
  } catch (refused) {
    form.querySelector("button").disabled = false;
    say(refused.message, true);
  }
});
