// The Swarm address of patterned bytes, by @fairdatasociety/bmt-js: one size a line in, one address (hex) a line out.
import { createInterface } from "node:readline";
import bmt from "@fairdatasociety/bmt-js";

for await (const line of createInterface({ input: process.stdin })) {
  const data = Uint8Array.from({ length: Number(line) }, (_, at) => at * 31 + (at >> 8) * 17);
  process.stdout.write(`${Buffer.from(bmt.makeChunkedFile(data).address()).toString("hex")}\n`);
}
