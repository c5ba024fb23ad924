// Measures @waku/message-encryption and hash-wasm: one JSON request a line in, the CPU seconds of `count` runs out.
import { createInterface } from "node:readline";
import { ecies, getPublicKey, symmetric } from "@waku/message-encryption";
import { createKeccak } from "hash-wasm";

const key = Uint8Array.from({ length: 32 }, (_, i) => i);
const secret = new Uint8Array(32).fill(4);
const publicKey = getPublicKey(secret);
const signer = new Uint8Array(32).fill(3);
const keccak = await createKeccak(256);

const sealing = {
  symmetric: (plaintext) => symmetric.encryptSymmetric(plaintext, key),
  asymmetric: (plaintext) => ecies.encryptAsymmetric(plaintext, publicKey),
};
const opening = {
  symmetric: (data) => symmetric.decryptSymmetric(data, key),
  asymmetric: (data) => ecies.decryptAsymmetric(data, secret),
};

async function seal({ mode, signed, payload }) {
  return sealing[mode](await symmetric.preCipher(payload, signed ? signer : undefined));
}

async function messages(request) {
  const payload = crypto.getRandomValues(new Uint8Array(request.size));
  const sealed = await seal({ ...request, payload });
  return request.op === "seal"
    ? () => seal({ ...request, payload })
    : async () => symmetric.postCipher(await opening[request.mode](sealed));
}

async function timed(request) {
  const run = await messages(request);
  const before = process.cpuUsage();
  for (let i = 0; i < request.count; i++) await run();
  return since(before);
}

// Proof of work as our own miners do it: nonces in order, the best digest kept, from the whole input or a kept state.
function mined({ size, kept, count }) {
  const input = new Uint8Array(size + 8).fill(120);
  const nonce = new DataView(input.buffer, size, 8);
  const state = keccak.init().update(input.subarray(0, size)).save();
  let best = 0xffffffff;
  const before = process.cpuUsage();
  for (let i = 0; i < count; i++) {
    nonce.setUint32(4, i);
    if (kept) keccak.load(state).update(input.subarray(size));
    else keccak.init().update(input);
    const digest = keccak.digest("binary");
    const head = ((digest[0] << 24) | (digest[1] << 16) | (digest[2] << 8) | digest[3]) >>> 0;
    if (head < best) best = head;
  }
  return since(before);
}

function since(before) {
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1e6;
}

for await (const line of createInterface({ input: process.stdin })) {
  const request = JSON.parse(line);
  const seconds = request.op === "mine" ? mined(request) : await timed(request);
  process.stdout.write(`${JSON.stringify({ seconds })}\n`);
}
