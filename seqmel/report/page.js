"use strict";
// Draws the page from the JSON in it. Whatever comes from the data goes in as text, never as HTML.

const page = JSON.parse(document.getElementById("page").textContent);
const SVG = document.getElementById("namespace").namespaceURI;
const at = (id) => document.getElementById(id);
const count = (n) => n.toLocaleString("en-US");
const share = (x) => (x === 0 ? "0 %" : x < 0.001 ? "< 0.1 %" : (100 * x).toFixed(x < 0.1 ? 1 : 0) + " %");
const short = (x) => (x === null ? "none" : Math.abs(x) >= 1e6 || (x && Math.abs(x) < 1e-3) ? x.toExponential(2) : x.toLocaleString("en-US", { maximumSignificantDigits: 4 }));
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();

/** An element with attributes and children; strings become text. */
function make(tag, attributes = {}, ...children) {
  const element = ["svg", "g", "path", "line", "circle", "rect", "text", "title", "polyline"].includes(tag)
    ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "style") Object.assign(element.style, value);
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}
const card = (title, ...children) => make("div", { class: "card" }, make("h3", {}, title), ...children);
const grid = (...children) => make("div", { class: "grid" }, ...children);
const empty = (words) => make("p", { class: "empty" }, words);
const facts = (list) => list.flatMap((fact) => [make("div", {}, make("dt", {}, fact.name), make("dd", {}, fact.value))]);

// ------------------------------------------------------------------------------------------------ header, run

function header() {
  document.title = page.title + " - seqmel report";
  at("title").append(page.title);
  at("sample").append(`${count(page.data.events)} events of ${count(page.data.clients)} clients. Map and explorer show ${page.sample}.`);
  at("answers").append(...facts(page.answers));
  at("facts").append(...facts(page.facts));
  at("options").append(...page.options.flatMap((o) => [make("dt", {}, o.name), make("dd", {}, o.value)]));
}

/** Three to five round numbers from at most `low` to at least `high`, evenly apart. */
function ticks(low, high) {
  const rough = (high - low) / 3, unit = 10 ** Math.floor(Math.log10(rough)), step = unit * [1, 2, 5, 10].find((m) => m * unit >= rough * 0.999);
  const [first, last] = [Math.floor(low / step + 1e-9), Math.ceil(high / step - 1e-9)];
  return Array.from({ length: last - first + 1 }, (_, i) => +((first + i) * step).toPrecision(12));
}

/** A line chart of some figures by epoch; the first series is the accent, the second another colour. */
function curves(title, series, note = "") {
  const [width, height, left, right, top, bottom] = [360, 200, 44, 12, 10, 26];
  const rows = page.run.history.filter((row) => series.some((s) => Number.isFinite(row[s.key])));
  const values = series.flatMap((s) => rows.map((row) => row[s.key])).filter(Number.isFinite);
  let [low, high] = [Math.min(...values), Math.max(...values)];
  if (series[0].from !== undefined) low = Math.min(low, series[0].from);
  if (high === low) { high += Math.abs(high) * 0.1 || 1; low -= Math.abs(low) * 0.1; }
  const marks = ticks(low, high);
  [low, high] = [marks[0], marks[marks.length - 1]];
  const epochs = rows.map((row) => row.epoch), [first, last] = [epochs[0], epochs[epochs.length - 1]];
  const x = (e) => left + (last === first ? 0.5 : (e - first) / (last - first)) * (width - left - right);
  const y = (v) => top + (1 - (v - low) / (high - low)) * (height - top - bottom);
  const said = series.map((s) => `${s.name} from ${short(rows[0][s.key])} to ${short(rows[rows.length - 1][s.key])}`).join("; ");
  const chart = make("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${title} by epoch: ${said}` });
  for (const v of marks) chart.append(
    make("line", { x1: left, x2: width - right, y1: y(v), y2: y(v), style: { stroke: colourOf("line") } }),
    make("text", { x: left - 8, y: y(v) + 4, "text-anchor": "end" }, short(v)));
  for (const e of new Set([first, last])) chart.append(make("text", { x: x(e), y: height - 6, "text-anchor": e === first ? "start" : "end" }, (e === first ? "epoch " : "") + e));
  series.forEach((s, i) => {
    const known = rows.filter((row) => Number.isFinite(row[s.key])), stroke = colourOf("c" + i);
    chart.append(make("polyline", { points: known.map((row) => `${x(row.epoch)},${y(row[s.key])}`).join(" "), fill: "none", "stroke-width": 2, style: { stroke } }));
    for (const row of known) {
      const kept = row.epoch === page.run.best;
      chart.append(make("circle", { cx: x(row.epoch), cy: y(row[s.key]), r: kept ? 5 : known.length > 40 ? 1.5 : 3, style: { fill: stroke } },
        make("title", {}, `epoch ${row.epoch}: ${s.name} ${short(row[s.key])}${kept ? " (kept)" : ""}`)));
    }
  });
  const key = series.length > 1 ? [legend(series.map((s, i) => [s.name, "c" + i]))] : [];
  return card(title, chart, ...key, make("p", { class: "quiet small" }, note));
}
const colourOf = (name) => `var(--${name})`;
const legend = (entries) => make("ul", { class: "legend" }, ...entries.map(([name, tone]) =>
  make("li", {}, make("span", { class: "dot", style: { background: colourOf(tone) } }), name)));

function run() {
  const { history, best, collapsed } = page.run, body = at("run-body"), last = history[history.length - 1];
  if (!last) return body.append(empty("This model was not trained: its encoder is as it was drawn (0 epochs). seqmel train with --epochs gives curves."));
  if (collapsed.length) body.append(make("p", { class: "warning", role: "note" },
    `The embeddings collapsed: after epoch ${collapsed.join(", ")} they used fewer than 3 directions, so clients look alike. Try a lower training.learning_rate, another loss, or look at the columns with seqmel describe.`));
  const parts = Object.keys(last).filter((key) => key.startsWith("loss_")).map((key) => ({ key, name: key.slice(5).replaceAll("_", " ") }));
  const charts = [curves("Loss", [{ key: "loss", name: parts.length > 1 ? "total" : "loss" }, ...parts].slice(0, 8), "Of the training batches; lower is better.")];
  if ("recall_at_1" in last) charts.push(
    curves("Recall", [{ key: "recall_at_1", name: "recall@1", from: 0 }, { key: "recall_at_10", name: "recall@10" }],
      `Share of slices${last.clients_held_out ? ` of ${count(last.clients_held_out)} clients held out` : ""} that find their own client first, or among the first ten.${best ? ` Epoch ${best} was kept.` : ""}`),
    curves("Effective rank", [{ key: "effective_rank", name: "effective rank", from: 0 }], "How many directions the embeddings use."));
  else body.append(empty("No held-out clients were watched. training.validation_share gives recall and rank."));
  body.append(grid(...charts));
}

// ------------------------------------------------------------------------------------------------ data, quality

function bars(list, total, others = 0) {
  const most = Math.max(1, others, ...list.map((bar) => bar.count));
  const rows = others ? [...list, { name: "other known values", count: others, muted: true }] : list;
  return make("div", { class: "bars" }, ...rows.flatMap((bar) => [
    make("span", { class: "name", title: bar.name }, bar.name || "(empty text)"),
    make("span", { class: "track" }, make("div", { class: bar.muted ? "fill muted" : "fill", style: { width: (100 * bar.count) / most + "%", minWidth: bar.count ? "2px" : 0 } })),
    make("span", { class: "count", title: count(bar.count) }, share(bar.count / Math.max(1, total)))]));
}

function data() {
  const { data } = page, body = at("data-body"), gaps = data.gaps.reduce((sum, bar) => sum + bar.count, 0);
  body.append(make("dl", { class: "facts figures" }, ...facts([
    { name: "clients", value: count(data.clients) }, { name: "events", value: count(data.events) },
    { name: "first event", value: data.first.slice(0, 10) }, { name: "last event", value: data.last.slice(0, 10) }])));
  body.append(grid(
    card("Events per client", bars(data.lengths, data.clients), make("p", { class: "quiet small" }, "Share of clients; the steps get wider.")),
    card("Time to the next event", gaps ? bars(data.gaps, gaps) : empty("No client has two events."), make("p", { class: "quiet small" }, "Share of gaps; the steps get wider."))));
  const named = data.columns.filter((c) => c.role === "categorical"), numbers = data.columns.filter((c) => c.role.startsWith("numeric"));
  const others = data.columns.filter((c) => !named.includes(c) && !numbers.includes(c));
  body.append(grid(...named.map((c) => card(c.name, bars(c.top, data.events, c.others), make("p", { class: "quiet small" },
    `${count(c.known)} values with a code. Unseen in training or rare: ${share(c.unseen)} of events. ` +
    (c.nulls === null ? "Training saw no null; one here counts as unseen." : `Null: ${share(c.nulls)}.`))))));
  if (others.length) body.append(grid(...others.map((c) => card(c.name, make("p", { class: "quiet small" }, `A ${c.role} column. Null: ${share(c.nulls)}.`)))));
  if (!numbers.length) return;
  const head = ["number", "5 %", "25 %", "median", "75 %", "95 %", "missing", "clipped"];
  body.append(card("Numbers", make("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Numbers" }, make("table", {},
    make("thead", {}, make("tr", {}, ...head.map((h) => make("th", { scope: "col" }, h)))),
    make("tbody", {}, ...numbers.map((c) => make("tr", {}, make("th", { scope: "row" }, c.name + c.role.replace("numeric", "")),
      ...(c.quantiles.length ? c.quantiles : [null, null, null, null, null]).map((q) => make("td", { class: "number" }, short(q))),
      make("td", { class: "number" }, share(c.nulls)), make("td", { class: "number" }, share(c.clipped))))))),
  make("p", { class: "quiet small" }, "Quantiles are of the sampled clients; missing and clipped (beyond ten robust deviations) of all events.")));
}

function quality() {
  const body = at("quality-body"), titles = { auroc: "AUROC", log_loss: "log-loss ↓", r2: "R2", rmse: "RMSE ↓", mae: "MAE ↓", spearman: "Spearman" };
  if (!page.quality.length) return body.append(empty("No scores were given. --scores FILE shows what seqmel evaluate --json FILE wrote."));
  for (const table of page.quality) {
    const ranges = table.metrics.map((_, m) => {
      const ends = table.rows.flatMap((row) => [row.means[m] - (row.half_widths[m] || 0), row.means[m] + (row.half_widths[m] || 0)]);
      const [low, high] = [Math.min(...ends), Math.max(...ends)];
      return [low, high - low || 1];
    });
    const cell = (row, m) => {
      const [low, span] = ranges[m], place = (v) => 4 + 92 * Math.min(1, Math.max(0, (v - low) / span)) + "%";
      const half = row.half_widths[m] || 0, mean = row.means[m];
      return make("td", { class: "number" }, row.texts[m], make("div", { class: "interval", "aria-hidden": "true" },
        make("i", { style: { left: place(mean - half), width: (92 * 2 * half) / span + "%" } }), make("b", { style: { left: place(mean) } })));
    };
    body.append(card(table.target, make("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": `Scores of ${table.target}` }, make("table", {},
      make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "features"), ...table.metrics.map((m) => make("th", { scope: "col" }, titles[m] || m)))),
      make("tbody", {}, ...table.rows.map((row) => make("tr", {}, make("th", { scope: "row" }, row.features), ...table.metrics.map((_, m) => cell(row, m))))))),
    make("p", { class: "quiet small" }, table.caption + " Bars of one column share a scale.")));
  }
}

function audit() {
  const body = at("audit-body");
  if (!page.audit) return body.append(empty("No audit was given. --audit FILE shows what seqmel audit -o FILE wrote."));
  for (const { title, rows } of page.audit.tables) {
    const ends = rows.flatMap((row) => [row.low, row.high, row.chance]), low = Math.min(...ends), span = Math.max(...ends) - low || 1;
    const place = (v) => 4 + (92 * (v - low)) / span + "%", three = (v) => (v === null ? "–" : v.toFixed(3));
    body.append(card(title, make("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": title }, make("table", {},
      make("thead", {}, make("tr", {}, ...["", "vectors", "metric", "value", "chance", "clients"].map((h) => make("th", { scope: "col" }, h)))),
      make("tbody", {}, ...rows.map((row, i) => make("tr", {},
        make("th", { scope: "row" }, i && rows[i - 1].of === row.of ? "" : row.of), make("td", {}, row.vectors), make("td", {}, row.metric),
        make("td", { class: "number" }, `${three(row.mean)} (${three(row.low)} to ${three(row.high)})`, make("div", { class: "interval", "aria-hidden": "true" },
          make("i", { style: { left: place(row.low), width: (92 * (row.high - row.low)) / span + "%" } }), make("b", { style: { left: place(row.mean) } }),
          make("s", { style: { left: place(row.chance) } }))),
        make("td", { class: "number" }, three(row.chance)), make("td", { class: "number" }, count(row.clients))))))),
    make("p", { class: "quiet small" }, "Bars share a scale; the thin line is chance.")));
  }
  for (const remark of page.audit.remarks) body.append(make("p", { class: "quiet small" }, remark));
}

// ------------------------------------------------------------------------------------------------ map

let selected = 0;
const redraws = [];

function choose(label, options, onchange) {
  const select = make("select", { onchange: () => onchange(+select.value) }, ...options.map((name, i) => make("option", { value: i }, name)));
  return make("label", {}, label, make("br"), select);
}

/** What a client is coloured with: [a CSS colour, words]. */
function shade(colouring) {
  const values = colouring.values, known = values.filter((v) => v !== null).sort((a, b) => a - b);
  const rank = new Map(known.map((v, i) => [v, i]));
  const ends = ["low", "middle", "high"].map((name) => colour(name).match(/\w\w/g).map((h) => parseInt(h, 16)));
  const tones = colouring.classes.map((_, i) => colour("c" + i)), none = colour("none");
  const mix = (t) => { const [a, b] = t < 0.5 ? [ends[0], ends[1]] : [ends[1], ends[2]], s = t < 0.5 ? 2 * t : 2 * t - 1;
    return `rgb(${a.map((v, i) => Math.round(v + s * (b[i] - v))).join()})`; };
  return (i) => values[i] === null ? [none, "no label"]
    : colouring.classes.length ? [tones[values[i]], colouring.classes[values[i]]]
    : [mix(rank.get(values[i]) / Math.max(1, known.length - 1)), short(values[i])];
}

function map() {
  const body = at("map-body");
  if (!page.map) return body.append(empty("Fewer than ten clients are shown: a map needs more."));
  let layout = page.map.layouts[0], colouring = page.map.colourings[0], tint, zoom = 1, middle = [500, 500], over = -1;
  const canvas = make("canvas", { tabindex: 0, role: "img", "aria-describedby": "map-help" });
  const chosen = make("p", { class: "small", "aria-live": "polite" });
  const tip = make("div", { class: "tip", hidden: "" }), key = make("div", {}), note = make("p", { class: "quiet small" });
  const size = () => [canvas.clientWidth, canvas.clientHeight];
  let spread = [1000, 1000];  // how far the points of the layout reach
  const scale = () => Math.min(...size().map((pixels, i) => pixels / (spread[i] + 60))) * zoom;
  const place = (i) => [size()[0] / 2 + (layout.x[i] - middle[0]) * scale(), size()[1] / 2 - (layout.y[i] - middle[1]) * scale()];
  function draw() {
    const [w, h] = size(), ratio = window.devicePixelRatio || 1, pen = canvas.getContext("2d");
    canvas.width = w * ratio; canvas.height = h * ratio; pen.scale(ratio, ratio);
    const radius = Math.min(6, (page.clients.length > 1000 ? 2.4 : 3.4) * Math.sqrt(zoom));
    const disc = (i, r) => { const [x, y] = place(i); pen.beginPath(); pen.arc(x, y, r, 0, 7); };
    pen.globalAlpha = 0.78;
    page.clients.forEach((_, i) => { pen.fillStyle = tint(i)[0]; disc(i, radius); pen.fill(); });
    pen.globalAlpha = 1; pen.strokeStyle = colour("ink");
    if (page.data) {
      pen.lineWidth = 1.2; for (const i of page.clients[selected].near) { disc(i, radius + 3); pen.stroke(); }
      pen.lineWidth = 2.4; disc(selected, radius + 4); pen.stroke();
    }
    if (over >= 0) { pen.lineWidth = 2; disc(over, radius + 2); pen.stroke(); }
    canvas.style.touchAction = zoom > 1 ? "none" : "pan-y";  // the whole map lets a finger scroll past it
    canvas.setAttribute("aria-label", `Map of ${count(page.clients.length)} clients by ${layout.name}${colouring.name && `, coloured by ${colouring.name}`}`);
  }
  function settle() {
    tint = shade(colouring);
    const classes = colouring.classes.map((name, i) => [`${name} (${count(colouring.values.filter((v) => v === i).length)})`, "c" + i]);
    if (colouring.values.includes(null)) classes.push(["no label", "none"]);
    const known = colouring.values.filter((v) => v !== null);
    key.replaceChildren(colouring.classes.length ? legend(classes) : make("ul", { class: "legend" },
      make("li", {}, short(Math.min(...known)), make("span", { class: "ramp" }), short(Math.max(...known)), " (by rank)")));
    const client = page.clients[selected].id, more = page.data ? ["See it in the explorer", "Ringed: the client in the explorer and its neighbours. "] : ["", ""];
    if (page.data) chosen.replaceChildren("Chosen: ", make("strong", {}, client), ". ", make("a", { href: "#explorer" }, more[0]));
    note.textContent = `${layout.name}: ${layout.note}. ${more[1]}${page.map.missing.join(" ")}`;
    draw();
  }
  function under(event) {
    const box = canvas.getBoundingClientRect(), x = event.clientX - box.left, y = event.clientY - box.top;
    let [best, near] = [-1, event.pointerType === "touch" ? 24 : 12];
    page.clients.forEach((_, i) => { const [a, b] = place(i), d = Math.hypot(a - x, b - y); if (d < near) [best, near] = [i, d]; });
    return [best, x, y];
  }
  function hover(event) {
    const [found, x, y] = under(event);
    over = found; tip.hidden = found < 0;
    if (found >= 0) {
      const of = page.clients[found], words = [colouring.name && `${colouring.name} ${tint(found)[1]}`, page.data && `${count(of.length)} events`];
      tip.textContent = [of.id, words.filter(Boolean).join(", ")].filter(Boolean).join(": ");
      tip.style.left = Math.max(0, Math.min(x + 12, size()[0] - tip.offsetWidth)) + "px"; tip.style.top = y + 14 + "px";
    }
    draw();
  }
  function zoomBy(factor, x = size()[0] / 2, y = size()[1] / 2) {
    const before = scale(), next = Math.min(40, Math.max(0.7, zoom * factor));
    if (next === zoom) return false;
    zoom = next;
    const shift = 1 / before - 1 / scale();
    middle = [middle[0] + (x - size()[0] / 2) * shift, middle[1] - (y - size()[1] / 2) * shift];
    draw();
    return true;
  }
  const move = (dx, dy) => { middle = [middle[0] - dx / scale(), middle[1] + dy / scale()]; draw(); };
  const reset = () => {
    const ends = [layout.x, layout.y].map((values) => [Math.min(...values), Math.max(...values)]);
    zoom = 1; spread = ends.map(([low, high]) => high - low); middle = ends.map(([low, high]) => (low + high) / 2);
    draw();
  };
  const fingers = new Map(); let moved = 0;
  canvas.addEventListener("pointerdown", (event) => { canvas.setPointerCapture(event.pointerId); fingers.set(event.pointerId, event); if (fingers.size === 1) moved = 0; });
  canvas.addEventListener("pointermove", (event) => {
    const before = fingers.get(event.pointerId);
    if (!before) return hover(event);
    const [dx, dy] = [event.clientX - before.clientX, event.clientY - before.clientY];
    moved += Math.hypot(dx, dy);
    const other = [...fingers.values()].find((f) => f.pointerId !== event.pointerId), box = canvas.getBoundingClientRect();
    if (other) {
      const apart = (f) => Math.max(10, Math.hypot(f.clientX - other.clientX, f.clientY - other.clientY));
      zoomBy(apart(event) / apart(before), (event.clientX + other.clientX) / 2 - box.left, (event.clientY + other.clientY) / 2 - box.top);
    }
    move(dx / fingers.size, dy / fingers.size);
    fingers.set(event.pointerId, event);
  });
  const lift = (event) => { fingers.delete(event.pointerId); if (event.type === "pointerup" && moved < 6) { hover(event); if (over >= 0 && page.data) open(over); } };
  canvas.addEventListener("pointerup", lift);
  canvas.addEventListener("pointercancel", lift);
  canvas.addEventListener("pointerleave", () => { over = -1; tip.hidden = true; draw(); });
  canvas.addEventListener("wheel", (event) => {  // where it cannot zoom any further, the page scrolls
    const box = canvas.getBoundingClientRect();
    if (zoomBy(Math.exp(-event.deltaY / 300), event.clientX - box.left, event.clientY - box.top)) event.preventDefault();
  }, { passive: false });
  canvas.addEventListener("keydown", (event) => {
    const act = { "+": () => zoomBy(1.4), "=": () => zoomBy(1.4), "-": () => zoomBy(1 / 1.4), "0": reset, ArrowLeft: () => move(40, 0), ArrowRight: () => move(-40, 0), ArrowUp: () => move(0, 40), ArrowDown: () => move(0, -40) }[event.key];
    if (act) { event.preventDefault(); act(); }
  });
  const button = (text, label, onclick) => make("button", { type: "button", "aria-label": label, onclick }, text);
  body.append(make("div", { class: "card" },
    make("div", { class: "controls" },
      choose("Drawn by", page.map.layouts.map((l) => l.name), (i) => { layout = page.map.layouts[i]; settle(); reset(); }),
      page.map.colourings[0].name ? choose("Coloured by", page.map.colourings.map((c) => c.name), (i) => { colouring = page.map.colourings[i]; settle(); }) : "",
      make("div", {}, button("+", "Zoom in", () => zoomBy(1.4)), " ", button("−", "Zoom out", () => zoomBy(1 / 1.4)), " ", button("Whole map", "Show the whole map", reset))),
    make("div", { class: "plane" }, canvas, tip), key, chosen, note,
    make("p", { class: "quiet small", id: "map-help" }, "Wheel, pinch or + and − zoom; drag or arrow keys move; 0 shows the whole map.")));
  settle();
  reset();
  redraws.push(settle);
  new ResizeObserver(draw).observe(canvas);
}

// ------------------------------------------------------------------------------------------------ explorer

let open = (i) => { selected = i; redraws.forEach((redraw) => redraw()); };

const clock = (minutes) => new Date(Date.parse(page.begins.replace(" ", "T") + "Z") + minutes * 60000);
const stamp = (minutes) => { const d = clock(minutes); return isNaN(d) ? `day ${Math.floor(minutes / 1440)}` : d.toISOString().slice(0, 16).replace("T", " "); };
const day = (minutes) => stamp(minutes).slice(0, 10);
const moments = (client) => { let t = 0; return client.times.map((step) => (t += step)); };

/** Where strokes stand: at their times, and those of one time side by side, as far as there is room before the next. */
function places(times, x, end) {
  const found = [];
  for (let i = 0; i < times.length;) {
    let next = i + 1;
    while (next < times.length && times[next] === times[i]) next += 1;
    const here = x(times[i]), last = next === times.length, room = (last ? end : x(times[next])) - here, number = next - i;
    const wide = Math.min(3, Math.max(room / number, last ? 1.5 : 0));
    const start = last ? Math.min(here, Math.max(end - wide * (number - 1), found[i - 1] ?? 4)) : here;
    const step = last ? Math.min(wide, (end - start) / Math.max(1, number - 1)) : wide;
    while (i < next) found.push(start + step * (i++ - next + number));
  }
  return found;
}

/** A colour for each value, by its place: with many values for the commonest of those shown alone. */
function paints(clients) {
  const tally = new Map();
  for (const client of clients) for (const tone of client.tones) tally.set(tone, (tally.get(tone) ?? 0) + 1);
  tally.delete(page.tone.values.length);
  const few = page.tone.values.length <= COLOURS, all = page.tone.values.map((_, tone) => tone);
  const chosen = few ? all : [...tally].sort((a, b) => b[1] - a[1] || a[0] - b[0]).slice(0, COLOURS).map(([tone]) => tone);
  return new Map(chosen.map((tone, i) => [tone, "c" + i]));
}
const COLOURS = 7;

/** Events as strokes over time: colour the category, height the number. Shaded: the slices of a search. */
function timeline(client, [from, to], slices, paint) {
  const [width, height] = [720, 64], times = moments(client), tone = page.tone;
  const x = (t) => 4 + ((t - from) / Math.max(1, to - from)) * (width - 8);
  const chart = make("svg", { class: "timeline", viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", role: "img", "aria-label":
    times.length ? `${count(times.length)} events of ${client.id}, from ${day(times[0])} to ${day(times[times.length - 1])}` : `no events of ${client.id}` });
  const stands = places(times, x, width - 4);
  for (const [[begin, end], name] of slices) {
    const inside = stands.filter((_, i) => times[i] >= begin && times[i] <= end);
    if (!inside.length) continue;
    const [left, right] = [inside[0], inside[inside.length - 1]];
    chart.append(make("rect", { x: left - 3, y: 0, width: right - left + 6, height: height - 2, rx: 3, style: { fill: colourOf(name), opacity: 0.16 } }));
  }
  chart.append(make("line", { x1: 0, x2: width, y1: height - 2, y2: height - 2, style: { stroke: colourOf("line") } }));
  times.forEach((t, i) => {
    const z = client.heights.length ? client.heights[i] : 0, tall = z === null ? 5 : 8 + 46 * (1 / (1 + Math.exp(-z / 10)));
    const name = client.tones[i] < tone.values.length ? tone.values[client.tones[i]] : "another value";
    chart.append(make("line", { x1: stands[i], x2: stands[i], y1: height - 2, y2: height - 2 - tall, "stroke-width": 2, "stroke-linecap": "round", "vector-effect": "non-scaling-stroke",
      style: { stroke: colourOf(paint.get(client.tones[i]) ?? "none"), opacity: 0.85 } },
    make("title", {}, `${stamp(t)}\n${tone.column}: ${name}${tone.number ? `\n${tone.number}: ${short(client.numbers[i])}` : ""}`)));
  });
  return chart;
}

function explorer() {
  const body = at("explorer-body"), found = page.explorer, { tone } = page;
  const rows = make("div", { "aria-live": "polite" }), lists = make("div", { class: "card" });
  let search = null;
  if (found) {
    body.append(make("dl", { class: "facts figures" }, ...facts(found.facts)), make("p", { class: "quiet small lead" }, found.note));
    for (const [title, entries] of [["Worst searches", found.worst], ["Best searches", found.best]]) lists.append(make("h3", {}, title),
      make("ul", { class: "list" }, ...entries.map((entry) => make("li", {}, make("button", { type: "button", "aria-pressed": "false", onclick: () => { show(entry.client, entry); input.scrollIntoView({ block: "nearest" }); } },
        make("span", {}, page.clients[entry.client].id), make("span", {}, "rank " + count(entry.rank)))))));
    [...lists.querySelectorAll("button")].forEach((button, i) => { button.entry = [...found.worst, ...found.best][i]; });
  } else lists.append(empty("No searches: fewer than two clients have two different slices."));
  const ids = make("datalist", { id: "ids" }, ...page.clients.map((c) => make("option", { value: c.id })));
  const input = make("input", { id: "who", list: "ids", autocomplete: "off", spellcheck: "false", onchange: () => {
    const i = page.clients.findIndex((c) => c.id === input.value);
    said.textContent = i < 0 ? "No such client among those shown." : "";
    if (i >= 0) show(i, null);
  } });
  const said = make("span", { class: "quiet small", role: "status" });
  const random = make("button", { type: "button", onclick: () => show(Math.floor(Math.random() * page.clients.length), null) }, "Any client");
  body.append(make("div", { class: "split" }, lists, make("div", { class: "card" },
    make("div", { class: "controls" }, make("label", { for: "who" }, "Client", make("br"), input), random, said, ids), rows)));

  function show(i, entry) {
    search = entry;
    open(i);
  }
  function draw() {
    const client = page.clients[selected], listed = [selected, ...client.near], ends = listed.map((i) => moments(page.clients[i])).filter((t) => t.length);
    const range = [Math.min(...ends.map((t) => t[0])), Math.max(...ends.map((t) => t[t.length - 1]))];
    if (search && search.client !== selected) search = null;
    input.value = client.id; said.textContent = "";
    lists.querySelectorAll("button").forEach((b) => b.setAttribute("aria-pressed", String(b.entry === search)));
    const words = search ? make("p", {}, `A slice of ${client.id} found its other slice at place ${count(search.rank)} (distance ${search.own.toFixed(2)}). The nearest slice of another client was of `,
      link(search.first), ` (${search.other.toFixed(2)}).`) : make("p", { class: "quiet" }, "Its nearest neighbours by the embedding of all events, over the same time.");
    const paint = paints(listed.map((i) => page.clients[i]));
    const marks = [...paint].map(([value, name]) => [tone.values[value] || "(empty text)", name]);
    rows.replaceChildren(words, ...listed.map((i, place) => {
      const other = page.clients[i], shown = other.times.length, slices = search && !place ? [[search.asked, "accent"], [search.wanted, "c1"]] : [];
      return make("div", { class: "row" }, make("p", {}, place ? link(i) : make("strong", {}, other.id),
        make("span", { class: "quiet small" }, `${place ? `cosine ${client.likeness[place - 1].toFixed(2)}, ` : ""}${shown < other.length ? `last ${count(shown)} of ${count(other.length)}` : count(shown)} events`)),
      timeline(other, range, slices, paint));
    }));
    if (ends.length) rows.append(make("p", { class: "quiet small row ends" }, make("span", {}, day(range[0])), make("span", {}, day(range[1]))));
    const key = [];
    if (tone.column) key.push(legend([...marks, ["other values", "none"]]));
    if (search) key.push(legend([[search.asked, "asked", "accent"], [search.wanted, "wanted", "c1"]].map(([[, end], word, name]) =>
      [end < moments(client)[0] ? `not shown: the slice that was ${word}, which is earlier` : `shaded: the slice that was ${word}`, name])));
    rows.append(...key, make("p", { class: "quiet small" }, `A stroke is an event${tone.column ? `, its colour ${tone.column}${tone.values.length > COLOURS ? " (the commonest values of those shown)" : ""}` : ""}${tone.number ? `, its height ${tone.number} (scaled)` : ""}. Events at one time stand side by side.`));
  }
  const link = (i) => make("button", { type: "button", class: "link", onclick: () => show(i, null) }, page.clients[i].id);
  redraws.push(draw);
  show(found ? found.worst[0].client : 0, found ? found.worst[0] : null);
}

// ------------------------------------------------------------------------------------------------ reasons

/** The score so far over time: a stroke for what each event adds, up in one colour and down in another. */
function reasonLine(one) {
  const [width, height, left, right, top, bottom] = [720, 190, 60, 12, 10, 26], ends = one.moments;
  const values = [one.start, ...ends.map((m) => m.score)];
  let [low, high] = [Math.min(...values), Math.max(...values)];
  if (high === low) { high += Math.abs(high) * 0.1 || 1; low -= Math.abs(low) * 0.1; }
  const marks = ticks(low, high);
  [low, high] = [marks[0], marks[marks.length - 1]];
  const x = (place) => left + place * (width - left - right), y = (v) => top + (1 - (v - low) / (high - low)) * (height - top - bottom);
  const chart = make("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${one.output} of ${one.client} from ${short(one.start)} to ${short(one.score)} over ${count(ends.length)} events` });
  for (const v of marks) chart.append(
    make("line", { x1: left, x2: width - right, y1: y(v), y2: y(v), style: { stroke: colourOf("line") } }),
    make("text", { x: left - 8, y: y(v) + 4, "text-anchor": "end" }, short(v)));
  const steps = ends.flatMap((m, i) => [[m.place, values[i]], [m.place, m.score]]);
  chart.append(make("polyline", { points: [[0, one.start], ...steps, [1, one.score]].map(([place, v]) => `${x(place)},${y(v)}`).join(" "), fill: "none", style: { stroke: colourOf("none") } }));
  ends.forEach((m, i) => chart.append(make("line", { x1: x(m.place), x2: x(m.place), y1: y(values[i]), y2: y(m.score), "stroke-width": 3, "stroke-linecap": "round",
    style: { stroke: colourOf(m.score >= values[i] ? "c0" : "c1") } }, make("title", {}, `${m.time}: ${short(m.score - values[i])}\n${m.values}`))));
  if (ends.length) for (const [m, anchor] of [[ends[0], "start"], [ends[ends.length - 1], "end"]])
    chart.append(make("text", { x: anchor === "start" ? left : width - right, y: height - 6, "text-anchor": anchor }, m.time.slice(0, 16)));
  return chart;
}

function reasons() {
  const body = at("reasons-body");
  if (!page.reasons.length) return body.append(empty("No reasons were given. --reasons FILE shows what seqmel explain -o FILE wrote."));
  for (const one of page.reasons) {
    const most = Math.max(...one.columns.map((c) => Math.abs(c.contribution)), Number.MIN_VALUE);
    body.append(card(`${one.client}: ${one.output} is ${short(one.score)}`, reasonLine(one),
      make("div", { class: "bars" }, ...one.columns.flatMap((c) => [
        make("span", { class: "name", title: c.name }, c.name),
        make("span", { class: "track" }, make("div", { class: "fill", style: { width: (100 * Math.abs(c.contribution)) / most + "%", background: colourOf(c.contribution >= 0 ? "c0" : "c1") } })),
        make("span", { class: "count" }, (c.contribution >= 0 ? "+" : "") + short(c.contribution))])),
      legend([["raises it", "c0"], ["lowers it", "c1"]])));
  }
}

if (page.data) { header(); run(); data(); quality(); audit(); map(); explorer(); reasons(); }
else { at("title").append(page.title); at("sample").append(page.sample); map(); }
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => redraws.forEach((redraw) => redraw()));
document.documentElement.dataset.drawn = "yes";
