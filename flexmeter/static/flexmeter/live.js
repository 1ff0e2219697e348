"use strict";
{
  // Keeps the newest events on the page. Every answer holds the newest ones anew: rows are merged by their key, so that
  // one which committed late appears in its place, and one that was replaced is shown as it is now.
  const view = document.getElementById("live");
  const texts = view.dataset;
  const rows = document.getElementById("live-rows");
  const template = document.getElementById("live-row");
  const toggle = document.getElementById("live-toggle");
  const state = document.getElementById("live-state");
  const trouble = document.getElementById("live-trouble");
  const none = document.getElementById("live-none");
  const known = new Map();
  let running = true;
  let timer = 0;
  let round = 0;

  function say(element, text) {
    if (element.textContent !== text) {
      element.textContent = text;
    }
  }

  // Pieces are text and marks in turn; a mark stands for a character that cannot be seen.
  function write(element, pieces) {
    element.replaceChildren(...pieces.map((piece, place) => {
      if (place % 2 === 0) {
        return document.createTextNode(piece);
      }
      const mark = document.createElement("span");
      mark.className = "fm-mark";
      mark.textContent = piece;
      return mark;
    }));
  }

  function drawn(event) {
    const row = template.content.firstElementChild.cloneNode(true);
    for (const part of row.querySelectorAll("[data-part]")) {
      const value = event[part.dataset.part];
      if (part.dataset.part === "url") {
        part.href = value;
      } else if (Array.isArray(value)) {
        write(part, value);
      } else {
        part.textContent = value;
      }
    }
    return row;
  }

  function merge(events) {
    for (const event of events) {
      const held = known.get(event.key);
      if (!held || held.version !== event.version) {
        known.set(event.key, {version: event.version, row: drawn(event)});
      }
    }
    const keys = [...known.keys()].sort((left, right) => right - left);
    for (const key of keys.splice(Number(texts.most))) {
      known.delete(key);
    }
    // Only what changed is touched, so that a link keeps its focus and a selection its text.
    keys.forEach((key, place) => {
      const row = known.get(key).row;
      if (rows.children[place] !== row) {
        rows.insertBefore(row, rows.children[place] || null);
      }
    });
    while (rows.children.length > keys.length) {
      rows.lastElementChild.remove();
    }
    none.hidden = keys.length > 0;
    none.textContent = texts.none;
  }

  async function ask() {
    const asked = ++round;
    try {
      const answer = await fetch(texts.url + window.location.search, {
        credentials: "same-origin",
        redirect: "manual",
        headers: {Accept: "application/json"},
      });
      if (asked !== round) {
        return;
      }
      if (answer.ok) {
        merge((await answer.json()).events);
        say(trouble, "");
      } else if (answer.status >= 500) {
        say(trouble, texts.failed);
      } else {
        say(trouble, texts.refused);
      }
    } catch {
      say(trouble, texts.failed);
    }
    if (asked === round) {
      plan();
    }
  }

  function plan() {
    clearTimeout(timer);
    if (running && !document.hidden) {
      timer = setTimeout(ask, Number(texts.milliseconds));
    }
  }

  toggle.addEventListener("click", () => {
    running = !running;
    round += 1;
    say(state, running ? texts.running : texts.paused);
    say(toggle, running ? texts.pause : texts.resume);
    view.classList.toggle("fm-paused", !running);
    if (running) {
      ask();
    } else {
      clearTimeout(timer);
    }
  });
  document.addEventListener("visibilitychange", () => {
    if (running && !document.hidden) {
      ask();
    }
  });
  ask();
}
