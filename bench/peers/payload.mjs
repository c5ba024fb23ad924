// Seals and opens messages with @waku/message-encryption: one JSON request a line in, one answer a line out, bytes as hex.
import { createInterface } from "node:readline";
import { ecies, getPublicKey, symmetric } from "@waku/message-encryption";

const bytes = (hex) => Uint8Array.from(Buffer.from(hex, "hex"));
const hex = (array) => Buffer.from(array).toString("hex");

async function seal({ mode, key, payload, signer }) {
  const plaintext = await symmetric.preCipher(bytes(payload), signer ? bytes(signer) : undefined);
  if (mode === "symmetric") return { data: hex(await symmetric.encryptSymmetric(plaintext, bytes(key))) };
  return { data: hex(await ecies.encryptAsymmetric(plaintext, getPublicKey(bytes(key)))) };
}

async function open({ mode, key, data }) {
  const decrypt = mode === "symmetric" ? symmetric.decryptSymmetric : ecies.decryptAsymmetric;
  const opened = symmetric.postCipher(await decrypt(bytes(data), bytes(key)));
  if (!opened) throw new Error("no payload");
  return { payload: hex(opened.payload), signer: opened.sig?.publicKey ? hex(opened.sig.publicKey) : null };
}

const reactions = { seal, open };
for await (const line of createInterface({ input: process.stdin })) {
  const request = JSON.parse(line);
  const answer = await reactions[request.op](request).catch((error) => ({ refused: String(error.message ?? error) }));
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
