"use strict";
/* What the page shows: sets of documents, the query, three rankings of it. Texts only ever become text nodes. */

const SHOWN = 5; // documents of each ranking
const SHOWN_ON_A_PHONE = 3;
const MOST_DOCUMENTS = 2000; // of one's own
const OWN = {
  title: "Your own documents", question: "Which of your texts comes nearest?",
  documents: [], labels: [], queries: [], isOwn: true,
};

const element = (id) => document.getElementById(id);

/** Make an element with attributes and children; a string becomes a text node. */
function make(tag, attributes, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children);
  return made;
}

const data = JSON.parse(element("data").textContent);
const { model, control } = Engine.load(data, {
  table: element("table").textContent,
  weights: element("weights").textContent,
  rows: element("rows").textContent,
  merges: element("merges").textContent,
});
const RANKERS = [
  { title: "This model", what: "meaning", index: (texts) => new Engine.CosineIndex(model, texts), cuts: data.cuts },
  { title: "BM25", what: "shared words alone", index: (texts) => new Engine.WordIndex(texts), zeroIsNothing: true },
  { title: "Random directions", what: "the control", index: (texts) => new Engine.CosineIndex(control, texts) },
];
const sets = [...data.examples, OWN];
let current = sets[0];

/** The three indexes of a set's documents, made when it is first shown. */
function indexesOf(set) {
  set.indexes = set.indexes || RANKERS.map((ranker) => ranker.index(set.documents));
  return set.indexes;
}

function rankingsOf(set, query) {
  return indexesOf(set).map((index) => Engine.ranking(index.scores(query)));
}

/** What is found of the answers, and what stands equal with documents that are none. */
function foundText({ found, equal }, count) {
  return `${found} of ${count}${equal ? `, ${equal} equal with others` : ""}`;
}

function show() {
  const text = element("query").value;
  const query = current.queries.find((known) => known.text === text);
  for (const button of element("samples").children) {
    const pressed = button.textContent === text;
    button.setAttribute("aria-pressed", String(pressed));
    if (pressed) element("samples").scrollLeft = button.offsetLeft - element("samples").offsetLeft - 16;
  }
  const columns = element("columns");
  if (!text.trim() || !current.documents.length) {
    columns.replaceChildren();
    element("verdict").textContent = "";
    return;
  }
  const rankings = rankingsOf(current, text);
  const answers = query ? query.answers : [];
  columns.classList.toggle("code", Boolean(current.isCode));
  columns.replaceChildren(...rankings.map((ranked, i) => columnOf(RANKERS[i], ranked, answers)));
  const fits = wordOf(RANKERS[0], rankings[0][0].score) !== "unrelated";
  element("verdict").textContent = query ? verdictOf(rankings, answers) : fits ? "" : "Nothing in here fits.";
}

/** What a score means, by the cosines that 1 in 100 and 1 in 1,000 unrelated texts reach; nothing where no cut parts. */
function wordOf(ranker, score) {
  if (!ranker.cuts) return "";
  return ["unrelated", "near", "match"][ranker.cuts.filter((cut) => score >= cut).length];
}

function verdictOf(rankings, answers) {
  const count = answers.length;
  const [ours, words, random] = rankings.map((ranked) => foundText(Engine.foundOf(ranked, answers), count));
  const among = count > 1 ? `Answers among the first ${count}` : "Answers in the first place";
  return `${among} of ${current.documents.length} documents: ${ours} by this model; ${words} by BM25; ` +
    `${random} by random directions.`;
}

/** A ranking: its first documents, and the first answer where that comes later. */
function columnOf(ranker, ranked, answers) {
  const list = make("ol", {});
  const best = Math.max(...ranked.map(({ score }) => score), 1e-9);
  const firstAnswer = ranked.findIndex(({ document }) => answers.includes(document));
  ranked.forEach(({ document, score }, i) => {
    if (i >= SHOWN && i !== firstAnswer) return;
    if (i > SHOWN && i === firstAnswer) list.append(make("li", { class: "gap", "aria-hidden": "true" }, "\u22ee"));
    const right = answers.includes(document);
    const nothing = ranker.zeroIsNothing && score === 0;
    const label = current.labels[document] || "";
    const note = [right ? "\u2713 answer" : "", label, wordOf(ranker, score), nothing ? "shares no word" : ""].filter(Boolean).join(" \u00b7 ");
    const classes = [right ? "right" : "", i >= SHOWN_ON_A_PHONE ? "more" : ""].filter(Boolean).join(" ");
    const item = make("li", { class: classes || undefined, "data-document": document, value: i + 1 });
    item.append(
      make("span", { class: "place" }, nothing ? "\u2013" : `${i + 1}.`),
      make("span", { class: "text", dir: "auto" }, current.documents[document]),
      make("span", { class: "score" }, nothing ? "" : score.toFixed(2)),
    );
    if (note) item.append(make("span", { class: "note" }, note));
    item.append(make("meter", { min: 0, max: 1, value: Math.max(0, score / best), "aria-hidden": "true" }));
    list.append(item);
  });
  return make("section", { class: "column" },
    make("h2", {}, ranker.title, make("small", {}, ranker.what)), list);
}

/** What each ranking finds of the answers to all examples of the set. */
function showTally() {
  element("tally").hidden = !current.queries.length;
  if (!current.queries.length) return;
  const total = current.queries.reduce((sum, { answers }) => sum + answers.length, 0);
  current.tally = current.tally || RANKERS.map((_, i) => current.queries.reduce((sum, query) => {
    const { found, equal } = Engine.foundOf(Engine.ranking(indexesOf(current)[i].scores(query.text)), query.answers);
    return { found: sum.found + found, equal: sum.equal + equal };
  }, { found: 0, equal: 0 }));
  const rows = RANKERS.map((ranker, i) => make("tr", {},
    make("th", { scope: "row" }, ranker.title),
    make("td", {}, foundText(current.tally[i], total))));
  const caption = make("caption", {}, "Right answers among the first as many as there are");
  element("tally-table").replaceChildren(make("table", {}, caption, make("tbody", {}, ...rows)));
}

function choose(set) {
  current = set;
  element("own").hidden = !set.isOwn;
  element("question").textContent = set.question;
  element("samples").replaceChildren(...set.queries.map((query) => {
    const button = make("button", { type: "button", dir: "auto", title: query.text, "aria-pressed": "false" }, query.text);
    button.addEventListener("click", () => ask(query.text));
    return button;
  }));
  element("samples").hidden = !set.queries.length;
  ask(set.queries.length ? set.queries[0].text : "");
  showTally();
}

function ask(text) {
  element("query").value = text;
  show();
}

function readOwn() {
  const field = element("texts");
  const lines = [...new Set(field.value.split("\n").map((line) => line.trim()).filter(Boolean))];
  OWN.documents = lines.slice(0, MOST_DOCUMENTS);
  OWN.indexes = null;
  const notes = [lines.length === 1 ? "1 document." : `${OWN.documents.length} documents.`];
  if (lines.length > MOST_DOCUMENTS) notes.push(`Only the first ${MOST_DOCUMENTS} of ${lines.length} are searched.`);
  if (field.value.length >= field.maxLength) notes.push("The field is full: what was beyond it is left out.");
  element("limit").textContent = lines.length ? notes.join(" ") : "";
  show();
}

/** The arrows go through the examples, from the one that is asked. */
function step(event) {
  const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  const count = current.queries.length;
  if (!by || !count) return;
  event.preventDefault();
  const here = current.queries.findIndex((query) => query.text === element("query").value);
  ask(current.queries[here < 0 ? (by > 0 ? 0 : count - 1) : (here + by + count) % count].text);
}

function start() {
  const size = (data.bytes / 1e6).toFixed(1);
  const tokens = data.tokenizer.tokens.length;
  const shared = data.rows < tokens ? ` sharing ${data.rows.toLocaleString("en")} rows` : "";
  element("facts").textContent = `${data.name}: ${tokens.toLocaleString("en")} tokens${shared} ` +
    `\u00d7 ${data.dims} dimensions, ${size} MB, all inside this page. Nothing that you type leaves it.`;
  sets.forEach((set, i) => {
    const radio = make("input", { type: "radio", name: "set", value: i, checked: i === 0 });
    radio.addEventListener("change", () => choose(set));
    element("sets").append(make("label", {}, radio, set.title));
  });
  element("query").addEventListener("input", show);
  element("query").addEventListener("keydown", step);
  let waiting;
  element("texts").addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(readOwn, 150);
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "/" || event.ctrlKey || event.metaKey || /^(textarea)$/i.test(event.target.tagName)) return;
    if (event.target === element("query")) return;
    event.preventDefault();
    element("query").focus();
    element("query").select();
  });
  choose(sets[0]);
  document.documentElement.dataset.ready = Math.round(performance.now());
}

start();
