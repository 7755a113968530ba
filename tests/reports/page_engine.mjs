// What the page's program gives: node page_engine.mjs PAGE < texts.json > {tokens, vectors, rankings of the examples}
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const engine = new URL("../../qwen25/templates/page/engine.js", import.meta.url);
const Engine = createRequire(import.meta.url)(engine.pathname);
const page = readFileSync(process.argv[2], "utf8");
const part = (id) => page.match(new RegExp(`id="${id}">([^<]*)<`))[1];
const data = JSON.parse(part("data"));
const parts = ["table", "weights", "rows", "merges"].map((id) => [id, part(id)]);
const { model, control } = Engine.load(data, Object.fromEntries(parts));

const texts = JSON.parse(readFileSync(0, "utf8"));
const rankings = data.examples.map(({ documents, queries }) => {
  const indexes = [
    new Engine.CosineIndex(model, documents),
    new Engine.WordIndex(documents),
    new Engine.CosineIndex(control, documents),
  ];
  return queries.map(({ text }) => indexes.map((index) => index.scores(text)));
});
console.log(JSON.stringify({
  tokens: texts.map((text) => model.tokenizer.encode(text)),
  vectors: texts.map((text) => Array.from(model.vector(text))),
  rankings,
}));
