// The vectors of transformers.js: node transformers.mjs FOLDER < texts.json > {padded, alone}
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { basename, dirname } from "node:path";

const require = createRequire(`${process.env.QWEN25_NODE_MODULES}/`);
const { env, pipeline } = require("@huggingface/transformers");
env.allowRemoteModels = false;
env.localModelPath = dirname(process.argv[2]);

const texts = JSON.parse(readFileSync(0, "utf8"));
const extract = await pipeline("feature-extraction", basename(process.argv[2]), { dtype: "fp32" });
const options = { pooling: "mean", normalize: true };
const alone = [];
for (const text of texts) alone.push((await extract(text, options)).tolist()[0]);
console.log(JSON.stringify({ padded: (await extract(texts, options)).tolist(), alone }));
