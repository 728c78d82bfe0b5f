"use strict";
// The page Upload: sends the chosen files one after the other, each as the body of a request, and adds up the answers.

(() => {
  const form = document.querySelector("form.upload");
  const find = (name) => form.querySelector(name);
  const bar = find("progress"), list = find("ul"), button = find("button");
  const nameOf = (file) => file.webkitRelativePath || file.name;
  let running = false;

  // Yields the JSON lines of a response as they arrive.
  async function* lines(response) {
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    for (let part = await reader.read(); !part.done; part = await reader.read()) {
      const complete = (text + part.value).split("\n");
      text = complete.pop();
      for (const line of complete) yield JSON.parse(line);
    }
  }

  async function send(file, results) {
    const response = await fetch("/upload/file", {
      method: "POST", body: file, headers: { "x-csrf-token": form.dataset.csrf, "content-type": "application/octet-stream" },
    });
    if (!response.ok) {
      const page = new DOMParser().parseFromString(await response.text(), "text/html");
      throw new Error((page.querySelector("main p") || page.body).textContent.trim());
    }
    for await (const line of lines(response)) {
      if (line.error) results.refuse(line.error, 1, nameOf(file));
      if (line.present) results.add(line, nameOf(file));
    }
  }

  class Results {
    constructor() {
      this.stored = this.refused = this.other = 0;
      this.present = new Set();
      this.named = new Set();
      this.reasons = new Map();
    }
    refuse(reason, count, name) {
      this.refused += count;
      const known = this.reasons.get(reason);
      this.reasons.set(reason, known ? { count: known.count + count, name: known.name } : { count, name });
    }
    add(line, name) {
      this.stored += line.stored;
      this.other += line.other;
      for (const [reason, count, first] of line.refused) this.refuse(reason, count, /\.zip$/i.test(name) ? first : name);
      for (const uid of line.present) this.present.add(uid);
      for (const uid of line.named) this.named.add(uid);
    }
    show() {
      const missing = [...this.named].filter((uid) => !this.present.has(uid));
      for (const name of ["stored", "refused", "other"]) find(`.${name}`).textContent = this[name];
      find(".missing").textContent = running ? "–" : missing.length;
      const shown = [...this.reasons].map(([reason, { count, name }]) => `${count} × ${name}: ${reason}`);
      list.replaceChildren(...shown.concat(running ? [] : missing.slice(0, 20)).map((text) => {
        const item = document.createElement("li");
        item.textContent = text;
        return item;
      }));
    }
  }

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const files = [...find("[name=folder]").files, ...find("[name=files]").files];
    if (running || !files.length) return;
    running = button.disabled = true;
    bar.hidden = find("table").hidden = false;
    const results = new Results(), bytes = files.reduce((sum, file) => sum + file.size, 0) || 1;
    let sent = 0;
    for (const file of files) {
      try {
        await send(file, results);
      } catch (error) {
        results.refuse(error instanceof TypeError ? form.dataset.lost : error.message, 1, nameOf(file));
      }
      sent += file.size;
      bar.value = sent / bytes;
      results.show();
    }
    running = button.disabled = false;
    results.show();
    find(".after").hidden = false;
  });
  window.addEventListener("beforeunload", (event) => { if (running) event.preventDefault(); });
})();
