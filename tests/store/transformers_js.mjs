// Encode texts with transformers.js: node transformers_js.mjs NODE_MODULES MODEL_FOLDER < texts.json > vectors.json
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { basename, dirname, resolve } from "node:path";
import { pathToFileURL } from "node:url";

const [modules, folder] = process.argv.slice(2).map((path) => resolve(path));
const library = createRequire(resolve(modules, "..", "x.js")).resolve("@huggingface/transformers");
const { AutoModel, AutoTokenizer, Tensor, env } = await import(pathToFileURL(library));
env.allowRemoteModels = false;
env.localModelPath = dirname(folder);

const tokenizer = await AutoTokenizer.from_pretrained(basename(folder));
const model = await AutoModel.from_pretrained(basename(folder), { dtype: "fp32" });

const texts = JSON.parse(readFileSync(0, "utf8"));
const { input_ids } = await tokenizer(texts, { add_special_tokens: false, return_tensor: false });
const offsets = [];
let tokens = 0;
for (const ids of input_ids) {
  offsets.push(tokens);
  tokens += ids.length;
}
const { embeddings } = await model({
  input_ids: new Tensor("int64", input_ids.flat(), [tokens]),
  offsets: new Tensor("int64", offsets, [offsets.length]),
});
console.log(JSON.stringify({ ids: input_ids, vectors: embeddings.tolist() }));
