"use strict";
/* What the page computes: texts -> tokens -> vectors -> rankings. It gives what Python gives for the same
   model, and touches no document, so that it runs under Node as well. */

const Engine = (() => {
  /** GPT-2's printable stand-in for each byte, as byte-level tokenizers spell their tokens. */
  const BYTE_LETTERS = (() => {
    const letters = new Array(256);
    let next = 256;
    for (let byte = 0; byte < 256; byte++) {
      const printable = (byte > 32 && byte < 127) || (byte > 160 && byte !== 173);
      letters[byte] = String.fromCharCode(printable ? byte : next++);
    }
    return letters;
  })();

  /** Bytes of a base64 text. */
  function bytesOf(base64) {
    if (Uint8Array.fromBase64) return Uint8Array.fromBase64(base64);
    const binary = atob(base64);
    const bytes = new Uint8Array(binary.length);
    for (let i = 0; i < binary.length; i++) bytes[i] = binary.charCodeAt(i);
    return bytes;
  }

  /** The int8 values of a text with a character each: those near 0 have the characters of one byte. NUL, carriage
      return and the less-than sign, which HTML reads otherwise, stand for none. */
  function valuesOf(text) {
    const values = new Int8Array(text.length);
    for (let i = 0; i < text.length; i++) {
      const code = text.charCodeAt(i);
      const place = code - 1 - (code > 13) - (code > 60); // of 0, -1, 1, -2, 2, ...
      values[i] = place & 1 ? -(place + 1) / 2 : place / 2;
    }
    return values;
  }

  /** Cut each piece at the pattern's matches; matches and what lies between them are pieces of their own. */
  function isolate(pieces, pattern) {
    const found = [];
    for (const piece of pieces) {
      let end = 0;
      for (const match of piece.matchAll(pattern)) {
        if (match.index > end) found.push(piece.slice(end, match.index));
        if (match[0]) found.push(match[0]);
        end = match.index + match[0].length;
      }
      if (end < piece.length) found.push(piece.slice(end));
    }
    return found;
  }

  /** A byte-level BPE tokenizer; its merges are applied in the order of their ranks. */
  class Tokenizer {
    constructor({ nfc, prepend, patterns, tokens, ignoreMerges }, merges) {
      Object.assign(this, { nfc, prepend, ignoreMerges });
      this.patterns = patterns.map((pattern) => new RegExp(pattern, "gu"));
      this.ids = new Map(tokens.map((token, id) => [token, id]));
      this.letters = BYTE_LETTERS.map((letter) => this.ids.get(letter));
      this.size = tokens.length;
      this.merges = new Map(); // a pair of ids -> its rank and the id that it becomes
      for (let rank = 0; 2 * rank < merges.length; rank++) {
        const [left, right] = [merges[2 * rank], merges[2 * rank + 1]];
        this.merges.set(left * this.size + right, [rank, this.ids.get(tokens[left] + tokens[right])]);
      }
      this.known = new Map(); // pieces that were met before
      this.utf8 = new TextEncoder();
    }

    /** The ids of a text's tokens. */
    encode(text) {
      let normal = text.toWellFormed ? text.toWellFormed() : text;
      if (this.nfc) normal = normal.normalize("NFC");
      if (normal) normal = this.prepend + normal;
      const ids = [];
      for (const piece of this.patterns.reduce(isolate, [normal])) {
        if (!this.known.has(piece)) {
          if (this.known.size > 50000) this.known.clear();
          this.known.set(piece, this.encodePiece(piece));
        }
        for (const id of this.known.get(piece)) ids.push(id);
      }
      return ids;
    }

    encodePiece(piece) {
      const bytes = this.utf8.encode(piece);
      if (this.ignoreMerges) {
        const whole = this.ids.get(Array.from(bytes, (byte) => BYTE_LETTERS[byte]).join(""));
        if (whole !== undefined) return [whole];
      }
      const ids = Array.from(bytes, (byte) => this.letters[byte]);
      const after = ids.map((_, i) => i + 1); // the places of each token's neighbours
      const before = ids.map((_, i) => i - 1);
      const found = new Map(); // the rank of a merge -> the places of its left tokens
      const mergeAt = (i) => this.merges.get(ids[i] * this.size + ids[after[i]]);
      const look = (i) => {
        const merge = i >= 0 && after[i] < ids.length && mergeAt(i);
        if (!merge) return;
        if (!found.has(merge[0])) found.set(merge[0], []);
        found.get(merge[0]).push(i);
      };
      ids.forEach((_, i) => look(i));
      // What a merge brings forth has a later rank, so each rank is dealt with once: a megabyte is no trouble.
      while (found.size) {
        let rank = Infinity;
        for (const other of found.keys()) rank = Math.min(rank, other);
        const places = found.get(rank).sort((a, b) => a - b);
        found.delete(rank);
        for (const i of places) {
          const merge = ids[i] !== undefined && after[i] < ids.length && mergeAt(i);
          if (!merge || merge[0] !== rank) continue; // a merge before has taken one of the two
          ids[after[i]] = undefined;
          ids[i] = merge[1];
          after[i] = after[after[i]];
          if (after[i] < ids.length) before[after[i]] = i;
          look(before[i]);
          look(i);
        }
      }
      return ids.filter((id) => id !== undefined);
    }
  }

  /** Scale a vector to length 1; a zero vector stays zero. */
  function unit(vector) {
    let sum = 0;
    for (const x of vector) sum += x * x;
    const length = Math.sqrt(sum) || 1;
    return Float32Array.from(vector, (x) => x / length);
  }

  /** The static model: the mean of the rows of a text's tokens, each scaled by its token's weight.

      rowOf: the number of each token's row, or empty where each token has a row of its own. */
  class Model {
    constructor(tokenizer, table, weights, rowOf, dims) {
      Object.assign(this, { tokenizer, table, weights, rowOf, dims });
    }

    vector(text) {
      const sum = new Float64Array(this.dims);
      const isShared = this.rowOf.length > 0;
      for (const id of this.tokenizer.encode(text)) this.add(isShared ? this.rowOf[id] : id, this.weights[id], sum);
      return unit(sum);
    }

    add(row, weight, sum) {
      const start = row * this.dims;
      for (let d = 0; d < this.dims; d++) sum[d] += weight * this.table[start + d];
    }
  }

  /** The control: the model's tokens, each row as long as the model's, but its direction drawn at random.

      Each number of a row is plus or minus 1, by a bit of a hash (MurmurHash3's last step) of row and place. */
  class Control extends Model {
    constructor(model, seed) {
      super(model.tokenizer, model.table, model.weights, model.rowOf, model.dims);
      this.seed = seed;
    }

    add(row, weight, sum) {
      let square = 0;
      for (let d = 0; d < this.dims; d++) square += this.table[row * this.dims + d] ** 2;
      const length = Math.sqrt(square) * weight;
      for (let d = 0; d < this.dims; d++) {
        const bits = hash(Math.imul(row, 0x9e3779b1) + Math.imul(d >> 5, 0x85ebca77) + this.seed);
        sum[d] += (bits >>> (d & 31)) & 1 ? length : -length;
      }
    }
  }

  function hash(number) {
    let h = number | 0;
    h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
    h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
    return (h ^ (h >>> 16)) >>> 0;
  }

  /** Documents by the cosine of their vectors with the query's. */
  class CosineIndex {
    constructor(model, documents) {
      this.model = model;
      this.vectors = documents.map((text) => model.vector(text));
    }

    scores(query) {
      const asked = this.model.vector(query);
      return this.vectors.map((vector) => {
        let sum = 0;
        for (let d = 0; d < vector.length; d++) sum += asked[d] * vector[d];
        return sum;
      });
    }
  }

  /** Documents by the words that they share with the query: BM25 as Lucene has it, k1 = 1.5, b = 0.75. */
  class WordIndex {
    constructor(documents) {
      this.counts = documents.map((text) => {
        const counts = new Map();
        for (const word of wordsOf(text)) counts.set(word, (counts.get(word) || 0) + 1);
        return counts;
      });
      this.lengths = documents.map((text) => wordsOf(text).length);
      this.meanLength = this.lengths.reduce((sum, n) => sum + n, 0) / Math.max(1, documents.length);
      this.found = new Map(); // word -> how many documents have it
      for (const counts of this.counts) {
        for (const word of counts.keys()) this.found.set(word, (this.found.get(word) || 0) + 1);
      }
    }

    scores(query) {
      const words = wordsOf(query).filter((word) => this.found.has(word));
      return this.counts.map((counts, i) => {
        const norm = 1.5 * (0.25 + (0.75 * this.lengths[i]) / this.meanLength);
        return words.reduce((sum, word) => {
          const count = counts.get(word) || 0;
          const having = this.found.get(word);
          return sum + Math.log(1 + (this.counts.length - having + 0.5) / (having + 0.5)) * (count / (count + norm));
        }, 0);
      });
    }
  }

  /** A text's words in lower case, single characters too. */
  function wordsOf(text) {
    return text.toLowerCase().match(/[\p{L}\p{N}_]+/gu) || [];
  }

  /** Documents, best first; scores are rounded, so that ties are ties on every machine and keep their order. */
  function ranking(scores) {
    const rounded = scores.map((score) => Math.round(score * 1e5) / 1e5);
    const order = rounded.map((_, i) => i).sort((a, b) => rounded[b] - rounded[a] || a - b);
    return order.map((document) => ({ document, score: rounded[document] }));
  }

  /** How many of the answers are among the first as many documents (R-precision), and how many may be: those share
      their score with documents for which there is no room left. */
  function foundOf(ranked, answers) {
    const limit = ranked[answers.length - 1].score;
    const full = ranked.filter(({ score }) => score >= limit).length <= answers.length;
    const right = ranked.filter(({ document }) => answers.includes(document));
    const found = right.filter(({ score }) => score > limit || (full && score === limit)).length;
    return { found, equal: right.filter(({ score }) => score >= limit).length - found };
  }

  /** The model and its control, from the page's data. */
  function load(data, texts) {
    const merges = new Uint32Array(bytesOf(texts.merges).buffer);
    const tokenizer = new Tokenizer(data.tokenizer, merges);
    const weights = new Float32Array(bytesOf(texts.weights).buffer);
    const rowOf = new Uint32Array(bytesOf(texts.rows).buffer);
    const model = new Model(tokenizer, valuesOf(texts.table), weights, rowOf, data.dims);
    return { model, control: new Control(model, data.seed) };
  }

  return { load, CosineIndex, WordIndex, ranking, foundOf };
})();

if (typeof module !== "undefined") module.exports = Engine;
