"use strict";
// The viewer of a result: slices by wheel, arrow keys or slider; before and after by swiping; outlines on and off.

function makeViewer(figure) {
  const find = (name) => figure.querySelector(name);
  const before = find(".before"), after = find(".after"), stack = find(".stack");
  const slider = find(".slice"), swipe = find(".swipe"), outlines = find(".outlines"), preset = find(".window");
  const output = find("output"), count = Number(figure.dataset.count), kept = new Map();
  let index = Number(figure.dataset.start);

  function address(slice, derived) {
    const query = new URLSearchParams({ window: preset ? preset.value : "", outlines: outlines && outlines.checked ? 1 : 0 });
    if (derived) { query.set("outlines", 0); query.set("derived", 1); }
    return `${figure.dataset.url}${slice}.jpg?${query}`;
  }
  function fetched(url) {
    if (!kept.has(url)) {
      if (kept.size > 400) kept.delete(kept.keys().next().value);
      const image = new Image();
      image.src = url;
      kept.set(url, image);
    }
    return kept.get(url);
  }
  const missed = figure.closest("section").querySelector(".missed");
  function show() {
    slider.value = index + 1;
    if (missed) missed.value = index + 1;
    output.textContent = `${index + 1} / ${count}`;
    before.alt = figure.dataset.alt.replace("{index}", index + 1).replace("{count}", count);
    for (const [image, derived] of after ? [[before, false], [after, true]] : [[before, false]]) {
      const url = address(index, derived), wanted = fetched(url);
      image.dataset.wanted = url;
      wanted.decode().then(() => { if (image.dataset.wanted === url) image.src = url; }, () => {});
      for (const near of [index + 1, index - 1, index + 2, index - 2]) if (near >= 0 && near < count) fetched(address(near, derived));
    }
  }
  function move(to) {
    const next = Math.max(0, Math.min(count - 1, to));
    if (next !== index) { index = next; show(); }
  }
  function cut(percent) {
    swipe.value = Math.max(0, Math.min(100, percent));
    stack.style.setProperty("--cut", `${swipe.value}%`);
  }
  slider.addEventListener("input", () => move(Number(slider.value) - 1));
  stack.addEventListener("pointerdown", () => figure.focus({ preventScroll: true }));
  stack.addEventListener("wheel", (event) => { event.preventDefault(); move(index + Math.sign(event.deltaY)); }, { passive: false });
  figure.addEventListener("keydown", (event) => {
    if (event.target !== figure) return;
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: 10, PageUp: -10, Home: -count, End: count };
    if (event.key in steps) move(index + steps[event.key]);
    else if (swipe && event.key === "ArrowLeft") cut(Number(swipe.value) - 5);
    else if (swipe && event.key === "ArrowRight") cut(Number(swipe.value) + 5);
    else if (outlines && event.key.toLowerCase() === "o") { outlines.checked = !outlines.checked; show(); }
    else return;
    event.preventDefault();
  });
  if (outlines) outlines.addEventListener("change", show);
  if (preset) preset.addEventListener("change", show);
  if (swipe) {
    swipe.addEventListener("input", () => cut(Number(swipe.value)));
    stack.addEventListener("pointermove", (event) => {
      if (event.buttons === 1) cut((100 * (event.clientX - stack.getBoundingClientRect().left)) / stack.clientWidth);
    });
  }
  figure.closest("section").addEventListener("click", (event) => {
    const jump = event.target.closest(".jump");
    if (jump) { move(Number(jump.dataset.slice)); figure.focus({ preventScroll: true }); }
  });
}

// Copy an impression. A page without TLS has no clipboard; the browser then copies what is selected.
document.addEventListener("click", async (event) => {
  const button = event.target.closest(".copy");
  if (!button) return;
  const text = button.previousElementSibling;
  if (navigator.clipboard) await navigator.clipboard.writeText(text.innerText);
  else { window.getSelection().selectAllChildren(text); document.execCommand("copy"); }
  button.textContent = button.dataset.copied;
});

document.querySelectorAll(".viewer").forEach(makeViewer);
// What is being filled in stays: no part of the page is renewed meanwhile.
document.addEventListener("htmx:beforeRequest", (event) => {
  if (event.target.querySelector("details[open] form")) event.preventDefault();
});
document.addEventListener("submit", (event) => {
  const question = event.target.dataset.confirm;
  if (question && !window.confirm(question)) event.preventDefault();
});
