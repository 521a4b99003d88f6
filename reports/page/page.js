"use strict";
document.documentElement.classList.add("js");

// Tabs: click, arrow keys, Home, End; the address keeps the open panel, so that it can be linked to.
for (const box of document.querySelectorAll(".tabs")) {
  const tabs = [...box.querySelector(":scope > [role=tablist]").children];
  const open = (tab, focus) => {
    for (const t of tabs) {
      t.setAttribute("aria-selected", t === tab);
      t.tabIndex = t === tab ? 0 : -1;
      document.getElementById(t.getAttribute("aria-controls")).classList.toggle("open", t === tab);
    }
    if (focus) tab.focus();
  };
  box.openTab = open;
  tabs.forEach((tab, i) => {
    const go = (t, focus) => {
      open(t, focus);
      try { history.replaceState(null, "", "#" + t.getAttribute("aria-controls")); } catch (e) { /* a sandboxed frame */ }
    };
    tab.addEventListener("click", () => go(tab, false));
    tab.addEventListener("keydown", (event) => {
      const n = tabs.length;
      const to = { ArrowRight: (i + 1) % n, ArrowLeft: (i + n - 1) % n, Home: 0, End: n - 1 }[event.key];
      if (to === undefined) return;
      event.preventDefault();
      go(tabs[to], true);
    });
  });
  open(tabs[0], false);
}
const follow = () => {
  let at = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  const target = at;
  for (; at; at = at.parentElement) {
    if (at.getAttribute("role") === "tabpanel") at.parentElement.openTab(document.getElementById("tab-" + at.id), false);
  }
  if (target) target.scrollIntoView();
};
addEventListener("hashchange", follow);
follow();

// Sorting: numbers by value, text by the alphabet; cells without a value stay last both ways.
const compare = (a, b, sign) => {
  if (a === "" || b === "") return (a === "") - (b === "");
  const x = Number(a), y = Number(b);
  return sign * (isNaN(x) || isNaN(y) ? a.localeCompare(b, "en", { numeric: true }) : x - y);
};
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => head.firstChild.addEventListener("click", () => {
    const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
    for (const h of heads) h.setAttribute("aria-sort", "none");
    head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
    const key = (row) => row.cells[column].dataset.k ?? row.cells[column].textContent;
    const rows = [...table.tBodies[0].rows].map((row) => [key(row), row]);
    rows.sort((a, b) => compare(a[0], b[0], sign));
    table.tBodies[0].append(...rows.map((r) => r[1]));
  }));
}
for (const filter of document.querySelectorAll("select.filter")) {
  filter.addEventListener("change", () => {
    for (const row of document.getElementById(filter.dataset.table).tBodies[0].rows) {
      row.hidden = filter.value !== "" && row.cells[0].textContent !== filter.value;
    }
  });
}

// Traces: the record's series, unpacked when first needed.
const TOP = 170, LOW = 60, GAP = 22;
const unpack = async (text) => {
  const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return JSON.parse(await new Response(stream).text());
};
const explore = async (figure) => {
  const [clip, au] = [figure.querySelector(".clip"), figure.querySelector(".au")];
  const [plot, read] = [figure.querySelector(".plot"), figure.querySelector(".read")];
  if (typeof DecompressionStream === "undefined") { read.textContent = "This browser is too old to unpack the traces."; return; }
  const all = await unpack(figure.querySelector(".series").textContent);
  let frames, both, cursor = 0, x, width = 0;
  const path = (values, y) => values.map((v, i) =>
    (i && frames[i] === frames[i - 1] + 1 ? "L" : "M") + x(frames[i]).toFixed(1) + " " + y(v).toFixed(1)).join("");
  const point = () => {
    const line = plot.querySelector(".cursor"), at = x(frames[cursor]);
    line.setAttribute("d", `M${at} 0V${TOP + GAP + LOW}`);
    const [a, b] = [both.reference[cursor], both.other[cursor]];
    const bits = all[clip.value].presence?.[au.value.replace("_r", "_c")];
    const px = all[clip.value].landmark_px?.[cursor];
    read.textContent = `frame ${frames[cursor]} (n = ${frames.length}): C++ ${a.toFixed(2)}, pyfaceau ${b.toFixed(2)}, ` +
      `difference ${(b - a).toFixed(2)}` + (bits ? `; present ${bits.reference[cursor]} / ${bits.other[cursor]}` : "") +
      (px === undefined ? "" : `; landmarks ${px.toFixed(2)} px`);
  };
  const draw = () => {
    frames = all[clip.value].frame;
    both = all[clip.value].intensity[au.value];
    cursor = Math.min(cursor, frames.length - 1);
    const last = Math.max(frames[frames.length - 1], frames[0] + 1);
    width = Math.max(plot.clientWidth - 50, 100);
    x = (f) => width * (f - frames[0]) / (last - frames[0]);
    const top = Math.max(1, ...both.reference, ...both.other) * 1.05;
    const gaps = both.other.map((v, i) => v - both.reference[i]);
    const reach = Math.max(0.05, ...gaps.map(Math.abs)) * 1.1;
    const high = (v) => TOP * (1 - v / top), low = (v) => TOP + GAP + LOW / 2 * (1 - v / reach);
    plot.innerHTML = `<svg viewBox="-40 -8 ${width + 50} ${TOP + GAP + LOW + 30}" aria-hidden="true">` +
      `<path class="axis" d="M0 0V${TOP}H${width}M0 ${low(0)}H${width}"/>` +
      `<path class="ref" d="${path(both.reference, high)}"/><path class="ours" d="${path(both.other, high)}"/>` +
      `<path class="ours" d="${path(gaps, low)}"/><path class="cursor"/>` +
      `<text x="-6" y="5" text-anchor="end">${top.toFixed(1)}</text><text x="-6" y="${TOP}" text-anchor="end">0</text>` +
      `<text x="-6" y="${low(reach) + 6}" text-anchor="end">+${reach.toFixed(2)}</text>` +
      `<text x="-6" y="${low(-reach)}" text-anchor="end">\u2212${reach.toFixed(2)}</text>` +
      `<text x="0" y="${TOP + GAP + LOW + 16}">frame ${frames[0]}</text>` +
      `<text x="${width}" y="${TOP + GAP + LOW + 16}" text-anchor="end">${last}</text></svg>`;
    point();
  };
  const choose = () => {
    const before = au.value, names = Object.keys(all[clip.value].intensity);
    au.replaceChildren(...names.map((n) => new Option(n.replace("_r", ""), n, false, n === before)));
    draw();
  };
  clip.addEventListener("change", choose);
  au.addEventListener("change", draw);
  plot.addEventListener("pointermove", (event) => {
    const box = plot.firstChild.getBoundingClientRect();
    const wanted = ((event.clientX - box.left) / box.width * (width + 50) - 40) / width;
    const frame = frames[0] + wanted * (frames[frames.length - 1] - frames[0]);
    cursor = frames.reduce((best, f, i) => Math.abs(f - frame) < Math.abs(frames[best] - frame) ? i : best, 0);
    point();
  });
  plot.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1, PageDown: 10, PageUp: -10 }[event.key];
    if (!step) return;
    event.preventDefault();
    cursor = Math.max(0, Math.min(frames.length - 1, cursor + step));
    point();
  });
  choose();
  // Drawn for the width at hand: again whenever it changes, as when the tab is opened.
  new ResizeObserver(() => { if (plot.clientWidth && Math.max(plot.clientWidth - 50, 100) !== width) draw(); }).observe(plot);
  figure.dataset.ready = "true";
};
for (const figure of document.querySelectorAll(".explorer")) explore(figure);
