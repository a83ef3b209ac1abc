// Paints what state.json and runs.json say, again and again. All that arrived over the wire goes in
// as text or as an attribute, never as markup.

const STATE_EVERY = 500; // milliseconds
const RUNS_EVERY = 3000;
const OUTBOXES_EVERY = 2000;
const PATH_END = 36; // characters

const byId = (id) => document.getElementById(id);
const sleep = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

/** Change a text only if it differs, so that what a person has selected stays selected. */
function write(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function lead(link, href) {
  if (link.getAttribute("href") !== href) link.setAttribute("href", href);
}

function fromTemplate(id) {
  return byId(id).content.firstElementChild.cloneNode(true);
}

/** Make a node's children those of a list of items, each told by its key; what stays is not touched. */
function reconcile(parent, items, make, paint) {
  const before = new Map([...parent.children].map((node) => [node.dataset.key, node]));
  items.forEach((item, index) => {
    let node = before.get(item.key);
    if (!node) {
      node = make(item);
      node.dataset.key = item.key;
    }
    before.delete(item.key);
    paint(node, item);
    if (parent.children[index] !== node) parent.insertBefore(node, parent.children[index] ?? null);
  });
  before.forEach((node) => node.remove());
}

function paintCell(td, { text = "", kind = "", href = "" }) {
  td.className = `cell ${kind}`;
  // For what does not fit.
  td.title = text.length > 30 ? text : "";
  if (kind === "path") paintPath(td, text);
  else if (href) paintLinkTo(td, text, href);
  else write(td, text);
}

/** Write a path in two parts: where it is too long the first gives way, since the end says most. */
function paintPath(td, text) {
  if (!td.firstElementChild) td.append(fromTemplate("path"));
  const cut = Math.max(0, text.length - PATH_END);
  write(td.querySelector(".start"), text.slice(0, cut));
  write(td.querySelector(".end"), text.slice(cut));
}

function paintLinkTo(td, text, href) {
  if (!td.firstElementChild) {
    td.append(Object.assign(document.createElement("a"), { target: "_blank", rel: "noopener" }));
  }
  write(td.firstElementChild, text);
  lead(td.firstElementChild, href);
}

function paintRow(tr, row) {
  while (tr.children.length < row.cells.length) tr.append(document.createElement("td"));
  row.cells.forEach((cell, index) => paintCell(tr.children[index], cell));
}

function makeTable(table) {
  const made = fromTemplate("table");
  made.querySelector(".scroll").setAttribute("aria-label", table.title);
  for (const column of table.columns) {
    const th = Object.assign(document.createElement("th"), { scope: "col" });
    write(th, column);
    made.querySelector("thead tr").append(th);
  }
  return made;
}

/** Keys of the rows that a person has cleared away, on this page alone; `state.json` still has them. */
const cleared = new Set();

function keyOf(tr) {
  return `${tr.closest("[data-owner]")?.dataset.owner}/${tr.closest(".table").dataset.key}/${tr.dataset.key}`;
}

/** Show the rows of a table that match the filter and are not cleared away. */
function sift(node) {
  const wanted = byId("filter").value.trim().toLowerCase();
  const rows = [...node.querySelectorAll("tbody tr")];
  for (const tr of rows) {
    tr.hidden = cleared.has(keyOf(tr)) || !tr.textContent.toLowerCase().includes(wanted);
  }
  const isBare = rows.every((tr) => tr.hidden);
  node.querySelector("table").hidden = isBare;
  const empty = node.querySelector(".empty");
  empty.hidden = !isBare;
  if (rows.length) write(empty, wanted ? "Nothing here matches the filter." : "Nothing new here.");
}

function siftAll() {
  document.querySelectorAll(".table").forEach(sift);
}

byId("filter").addEventListener("input", siftAll);
byId("clear").addEventListener("click", () => {
  document.querySelectorAll(".table tbody tr").forEach((tr) => cleared.add(keyOf(tr)));
  byId("all").hidden = false;
  siftAll();
});
byId("all").addEventListener("click", () => {
  cleared.clear();
  byId("all").hidden = true;
  siftAll();
});

function paintTable(node, table) {
  write(node.querySelector("h3"), table.title);
  const body = node.querySelector("tbody");
  // What is there at first is not news.
  const isNews = node.dataset.painted ? "news" : "";
  const make = () => Object.assign(document.createElement("tr"), { className: isNews });
  reconcile(body, table.rows, make, paintRow);
  node.dataset.painted = "yes";
  if (!table.rows.length) write(node.querySelector(".empty"), table.empty);
  sift(node);
}

async function copy(button, text) {
  try {
    await navigator.clipboard.writeText(text.textContent);
    write(button, "Copied");
  } catch {
    // Not allowed here: leave it selected, for the keyboard.
    getSelection().selectAllChildren(text);
    write(button, "Selected");
  }
  // For who hears the page: a button whose name changes says nothing.
  write(byId("said"), button.textContent);
  await sleep(2000);
  write(button, "Copy");
  write(byId("said"), "");
}

function makePaste(paste) {
  const made = fromTemplate("paste");
  const button = made.querySelector("button");
  button.setAttribute("aria-label", `Copy: ${paste.title}`);
  made.querySelector("pre").setAttribute("aria-label", paste.title);
  button.addEventListener("click", () => copy(button, made.querySelector("code")));
  return made;
}

function paintPaste(figure, paste) {
  write(figure.querySelector(".where"), paste.title);
  write(figure.querySelector("code"), paste.text);
}

function paintCount(item, count) {
  item.className = `cell ${count.kind}`;
  write(item.querySelector(".status"), count.text);
  write(item.querySelector(".times"), String(count.count));
}

function makeStandIn(one) {
  const made = fromTemplate("stand-in");
  made.id = one.key;
  made.dataset.owner = one.key;
  made.setAttribute("aria-label", one.title);
  return made;
}

function paintStandIn(section, one) {
  const find = (selector) => section.querySelector(selector);
  write(find("h2"), one.title);
  write(find(".state"), one.is_running ? "Running" : "Down");
  find(".state").dataset.is = one.is_running ? "good" : "bad";
  write(find(".address"), one.url);
  lead(find(".guide a"), one.guide);
  reconcile(find(".counts"), one.counts, () => fromTemplate("count"), paintCount);
  reconcile(find(".pasted"), one.pasted, makePaste, paintPaste);
  reconcile(find(".tables"), one.tables, makeTable, paintTable);
}

function paintLink(link, one) {
  lead(link, `#${one.key}`);
  link.querySelector(".dot").dataset.is = one.is_running ? "good" : "bad";
  write(link.querySelector(".name"), one.title);
  write(link.querySelector(".total"), String(one.total));
}

function paintState(state) {
  lead(byId("mlflow"), state.mlflow_url);
  write(byId("folder"), state.folder);
  const makeLink = () => fromTemplate("stand-in-link");
  reconcile(byId("stand-in-links"), state.stand_ins, makeLink, paintLink);
  reconcile(byId("stand-ins"), state.stand_ins, makeStandIn, paintStandIn);
}

function paintRuns(table) {
  reconcile(byId("runs-table"), [table], makeTable, paintTable);
}

function paintOutboxes(table) {
  byId("outboxes").hidden = !table.rows.length;
  reconcile(byId("outboxes-table"), [table], makeTable, paintTable);
}

function setLive(isLive) {
  const text = isLive ? "Live" : "The sandbox has ended";
  write(byId("live"), text);
  byId("live").dataset.is = isLive ? "good" : "bad";
  document.body.classList.toggle("ended", !isLive);
  document.title = isLive ? "MLflow sandbox" : "Ended: MLflow sandbox";
}

async function ask(address) {
  const answer = await fetch(address, { signal: AbortSignal.timeout(30_000) });
  if (!answer.ok) throw new Error(`${address}: ${answer.status}`);
  return answer.json();
}

/** Ask and paint for ever, but not while nobody looks. */
async function follow(address, every, paint, tell) {
  for (;;) {
    if (document.hidden) {
      await new Promise((seen) => {
        document.addEventListener("visibilitychange", seen, { once: true });
      });
      continue;
    }
    let found = null;
    try {
      found = await ask(address);
    } catch {
      // It is asked again: a laptop that slept may find the sandbox still there.
    }
    if (found) paint(found);
    tell(found !== null);
    await sleep(found ? every : 3000);
  }
}

follow("state.json", STATE_EVERY, paintState, setLive);
follow("runs.json", RUNS_EVERY, paintRuns, () => {});
follow("outboxes.json", OUTBOXES_EVERY, paintOutboxes, () => {});
