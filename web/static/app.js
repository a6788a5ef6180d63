// The page keeps a copy of the two lists, fed by the API and then by its event
// stream, and draws it. All text goes through textContent.

const MOST_ROWS = 500;
const REFRESH_MS = 10_000; // renewals bring no event, so "last seen" is asked for

const cluster = { status: null, daemons: new Map(), logs: new Map(), revision: 0, asOf: null, skew: 0 };
let source = null;
let retryMs = 1000;
let reload = 0;
let retry = 0;
let drawing = 0;

// ---- reading ----

async function get(path) {
  const r = await fetch(path, { headers: { Accept: "application/json" }, cache: "no-store", signal: AbortSignal.timeout(10_000) });
  const body = await r.json().catch(() => ({}));
  if (!r.ok) throw new Error(body.detail || body.title || `the server answered ${r.status}`);
  const date = Date.parse(r.headers.get("Date") ?? "");
  if (date) cluster.skew = date - Date.now();
  return { body, revision: Number(r.headers.get("Graven-Revision") ?? 0) };
}

async function list(path, key) {
  const items = new Map();
  let next = "";
  let revision = Infinity;
  do {
    const page = await get(`${path}?limit=1000${next && `&continue=${encodeURIComponent(next)}`}`);
    for (const item of page.body.items) items.set(item[key], item);
    revision = Math.min(revision, page.revision);
    next = page.body.continue ?? "";
  } while (next);
  return { items, revision };
}

async function load() {
  const [status, daemons, logs] = await Promise.all([get("/v1/status"), list("/v1/daemons", "daemon_id"), list("/v1/logs", "log_id")]);
  cluster.status = status.body;
  cluster.daemons = daemons.items;
  cluster.logs = logs.items;
  cluster.revision = Math.min(status.revision, daemons.revision, logs.revision);
  cluster.asOf = new Date();
  draw();
}

// Events bring one object each; what is derived from them (counts, alarms, a
// log's view of its daemons) is read again, once for a few of them.
function reloadSoon() {
  reload ||= setTimeout(() => {
    reload = 0;
    load().catch(lost);
  }, 150);
}

// ---- following ----

async function connect() {
  source?.close();
  try {
    await load();
  } catch (e) {
    lost(e);
    return;
  }
  source = new EventSource(`/v1/events?since=${cluster.revision}`);
  source.onopen = live;
  source.onerror = () => lost(null);
  source.addEventListener("daemon", (m) => apply(cluster.daemons, JSON.parse(m.data), "daemon"));
  source.addEventListener("log", (m) => apply(cluster.logs, JSON.parse(m.data), "log"));
}

function apply(items, event, kind) {
  if (event.deleted) items.delete(event.id);
  else if (event[kind]) items.set(event.id, event[kind]);
  drawSoon();
  reloadSoon();
}

function live() {
  const back = document.body.classList.contains("stale");
  retryMs = 1000;
  document.body.classList.remove("stale");
  byID("lost").hidden = true;
  setLink("live", "live");
  if (back) reloadSoon();
}

// The browser reconnects by itself unless the server refused, which is also how
// it says that events are no longer kept; then everything is read anew.
function lost(error) {
  document.body.classList.add("stale");
  const since = cluster.asOf ? `What you see is from ${clock(cluster.asOf)}.` : "Nothing has been read yet.";
  const why = error?.message ? ` (${error.message})` : "";
  show(byID("lost"), `No connection to the server${why}. ${since} Trying again …`);
  byID("lost").hidden = false;
  setLink("lost", "connection lost");
  if (source && source.readyState === EventSource.CONNECTING) return;
  source?.close();
  source = null;
  clearTimeout(retry);
  retry = setTimeout(connect, retryMs);
  retryMs = Math.min(retryMs * 2, 10_000);
}

function setLink(state, text) {
  const link = byID("link");
  link.dataset.state = state;
  if (link.textContent !== text) link.textContent = text;
}

// ---- drawing ----

const byID = (id) => document.getElementById(id);
const show = (node, text) => { node.textContent = text; };

function el(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [k, v] of Object.entries(props)) {
    if (k === "class") node.className = v;
    else node.setAttribute(k, v);
  }
  node.append(...children.filter((c) => c !== null && c !== undefined && c !== ""));
  return node;
}

const tone = {
  up: "good", open: "good", present: "good", ok: "good",
  draining: "warn", recovering: "warn", allocated: "warn", learner: "warn", degraded: "warn", "read-only": "warn", volatile: "warn",
  down: "bad", missing: "bad", suspect: "bad",
};
const tag = (text) => el("span", { class: `tag ${tone[text] ?? ""}` }, text);

function size(n) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let i = 0;
  while (n >= 1024 && i < units.length - 1) { n /= 1024; i++; }
  // Cut off, not rounded: what is not quite free must not look free.
  return `${n >= 100 ? Math.floor(n) : Math.floor(n * 100) / 100} ${units[i]}`;
}

const clock = (d) => d.toLocaleTimeString();

function ago(iso) {
  const s = Math.max(0, Math.round((Date.now() + cluster.skew - Date.parse(iso)) / 1000));
  const text = s < 60 ? `${s} s` : s < 3600 ? `${Math.floor(s / 60)} min` : s < 172_800 ? `${Math.floor(s / 3600)} h` : `${Math.floor(s / 86_400)} days`;
  return el("time", { datetime: iso, title: new Date(iso).toLocaleString() }, `${text} ago`);
}

function table(caption, heads, rows) {
  const shown = rows.slice(0, MOST_ROWS);
  const t = el("table", { "aria-label": caption },
    el("thead", {}, el("tr", {}, ...heads.map((h) => el("th", { scope: "col" }, h)))),
    el("tbody", {}, ...shown));
  const out = [el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption }, t)];
  if (rows.length > shown.length) out.push(el("p", { class: "dim" }, `The first ${shown.length} of ${rows.length}; the command line lists all.`));
  return out;
}

const td = (props, ...children) => el("td", props, ...children);
const labels = (m) => Object.entries(m).sort().map(([k, v]) => `${k}=${v}`).join(", ");

function daemonRow(d) {
  const seen = d.down_since ? ["went down ", ago(d.down_since)] : [ago(d.last_seen)];
  const room = el("meter", { min: 0, max: d.capacity_bytes || 1, value: d.free_bytes, "aria-label": "free" });
  const health = d.state !== "down" && d.health.state !== "ok" ? [" ", tag(d.health.state), " ", el("span", { class: "dim" }, d.health.reason ?? "")] : [];
  return el("tr", { "data-daemon": d.daemon_id },
    td({ class: "id" }, d.daemon_id),
    td({}, tag(d.state), ...health),
    td({}, d.media === "volatile" ? tag("volatile") : d.media),
    td({}, `${size(d.free_bytes)} of ${size(d.capacity_bytes)} free`, room),
    td({}, d.state === "down" ? el("span", { class: "dim" }, "not known") : String(d.replica_count), d.missing.length ? el("div", {}, tag("missing"), ` ${d.missing.length}`) : ""),
    td({}, labels(d.labels) || el("span", { class: "dim" }, "none")),
    td({}, `${d.tcp_addr}:${d.tcp_port}`),
    td({}, ...seen));
}

// A learner counts for nothing: it is shown, and left out of the set.
const members = (l) => l.replicas.filter((r) => r.state !== "learner");
const holder = (l) => (id) => l.replicas.find((r) => r.replica_id === id)?.daemon_id ?? id;

function replica(r, of) {
  const notes = [];
  if (r.replaces) notes.push(" ", el("span", { class: "dim" }, `to replace ${of(r.replaces)}`));
  if (r.daemon_state !== "up") notes.push(" ", tag(r.daemon_state));
  if (r.missing) notes.push(" ", tag("missing"));
  if (r.reported?.suspect) notes.push(" ", tag("suspect"));
  if (r.reported?.damage) notes.push(" ", el("span", { class: "dim" }, `damaged from LSN ${r.reported.damage_lsn ?? 0} on: ${r.reported.damage}`));
  if (r.reported) notes.push(" ", el("span", { class: "dim" }, `durable to ${r.reported.durable_lsn}, epoch ${r.reported.epoch}`));
  return el("li", {}, `${r.daemon_id} `, tag(r.state), ...notes);
}

function writer(w) {
  if (!w) return [el("span", { class: "dim" }, "none")];
  const who = w.name ? `${w.name} on ${w.host}` : w.host;
  return [`${who}, pid ${w.pid}`, el("div", { class: "dim" }, "opened ", ago(w.since))];
}

function logRow(l) {
  return el("tr", { "data-log": l.name },
    td({ class: "id" }, l.name),
    td({}, tag(l.state)),
    td({}, String(l.epoch)),
    td({}, ...writer(l.writer)),
    td({}, `${l.ack_quorum} of ${members(l).length}`),
    td({}, size(l.capacity_bytes)),
    td({}, el("ul", {}, ...l.replicas.map((r) => replica(r, holder(l))))));
}

function summary(s) {
  const item = (dt, dd, small) => el("div", {}, el("dt", {}, dt), el("dd", {}, dd, small ? el("small", {}, small) : ""));
  return [
    item("Daemons", `${s.daemons.up} up`, `${s.daemons.down} down, ${s.daemons.draining} draining`),
    item("Logs", `${s.logs.open} open`, `${s.logs.closed} closed, ${s.logs.degraded} degraded, ${s.logs.recovering} recovering`),
    item("Room", `${size(s.bytes.free)} free of ${size(s.bytes.capacity)}`, `${size(s.bytes.reserved)} reserved, of which ${size(s.bytes.condemned)} wait to be freed`),
  ];
}

const worst = new Set(["not-ready", "log-unavailable", "daemon-down", "replica-missing", "replica-suspect"]);

function drawAlarms(s) {
  byID("alarms").hidden = s.alarms.length === 0;
  const more = s.alarm_count - s.alarms.length;
  byID("alarm-list").replaceChildren(
    ...s.alarms.map((a) => el("li", { class: worst.has(a.kind) ? "bad" : "" }, a.detail)),
    more > 0 ? el("li", {}, `and ${more} more`) : "");
}

const code = (text) => el("code", {}, text);

function drawDaemons() {
  const rows = [...cluster.daemons.values()].sort((a, b) => (a.daemon_id < b.daemon_id ? -1 : 1)).map(daemonRow);
  byID("daemon-body").replaceChildren(...(rows.length
    ? table("Daemons", ["Daemon", "State", "Media", "Room", "Replicas", "Labels", "Address", "Last seen"], rows)
    : [el("p", { class: "empty" }, "No daemon has registered yet. ", code("graven dev"), " starts three on this machine; ", code("graven agent --help"), " says how to start one on a host.")]));
}

function drawLogs() {
  const rows = [...cluster.logs.values()].sort((a, b) => (a.name < b.name ? -1 : 1)).map(logRow);
  byID("log-body").replaceChildren(...(rows.length
    ? table("Logs", ["Log", "State", "Epoch", "Writer", "Acknowledged by", "Capacity", "Replicas"], rows)
    : [el("p", { class: "empty" }, "There is no log yet. Make one: ", code("graven log create l1 --replicas 3 --ack 2 --capacity 256MiB"))]));
}

function draw() {
  const s = cluster.status;
  show(byID("about"), `cluster ${s.cluster_id || "not known yet"}, server ${s.version || "of no version"}, revision ${s.view.revision}${s.ready ? "" : ", not ready"}`);
  drawAlarms(s);
  byID("summary").replaceChildren(...summary(s));
  drawDaemons();
  drawLogs();
}

// A daemon that goes brings an event of each of its logs: they are drawn together,
// and in a tab that nobody sees not before somebody does.
function drawSoon() {
  drawing ||= requestAnimationFrame(() => {
    drawing = 0;
    draw();
  });
}

connect();
setInterval(() => {
  if (source?.readyState === EventSource.OPEN && !document.hidden) load().catch(lost);
}, REFRESH_MS);
