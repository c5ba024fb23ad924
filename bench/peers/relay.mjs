// One @waku/relay node over TCP, driven as bench/messaging/member.py is: one JSON request a line in, one answer out.
import { createInterface } from "node:readline";
import { setImmediate, setTimeout } from "node:timers/promises";
import { noise } from "@chainsafe/libp2p-noise";
import { yamux } from "@chainsafe/libp2p-yamux";
import { identify } from "@libp2p/identify";
import { ping } from "@libp2p/ping";
import { tcp } from "@libp2p/tcp";
import { multiaddr } from "@multiformats/multiaddr";
import { createDecoder, createEncoder } from "@waku/core";
import { wakuGossipSub, wakuRelay } from "@waku/relay";
import { createLibp2p } from "libp2p";

const contentTopic = "/bench/1/line/bytes";
const pubsubTopic = "/waku/2/rs/77/0";
const shard = { clusterId: 77, shard: 0 };
const BREATH = 16;

Promise.withResolvers ??= () => {
  const deferred = {}; // libp2p calls it; Node has it from version 22 on
  deferred.promise = new Promise((resolve, reject) => Object.assign(deferred, { resolve, reject }));
  return deferred;
};

const libp2p = await createLibp2p({
  addresses: { listen: ["/ip4/127.0.0.1/tcp/0"] },
  transports: [tcp()],
  connectionEncryption: [noise()],
  streamMuxers: [yamux()],
  services: { identify: identify(), ping: ping(), pubsub: wakuGossipSub() },
});
const relay = wakuRelay([pubsubTopic])(libp2p);
const encoder = createEncoder({ contentTopic, pubsubTopicShardInfo: shard });
const now = () => process.hrtime.bigint();

let arrivals = [];
const seen = new Set();
relay.subscribeWithUnsubscribe([createDecoder(contentTopic, shard)], ({ payload }) => {
  const view = new DataView(payload.buffer, payload.byteOffset, payload.byteLength);
  if (seen.has(view.getBigUint64(0))) return;
  seen.add(view.getBigUint64(0));
  arrivals.push([Number(view.getBigInt64(8)), Number(now())]);
});

const reactions = {
  async address() {
    return libp2p.getMultiaddrs()[0].toString();
  },
  async dial({ to }) {
    await libp2p.dial(multiaddr(to));
  },
  async joined({ peers }) {
    while (relay.getMeshPeers(pubsubTopic).length < peers) await setTimeout(50);
  },
  async send({ first, count, rate, size }) {
    const began = now();
    for (let i = 0; i < count; i++) {
      const due = rate ? Number(began) + (i * 1e9) / rate : 0;
      if (due > Number(now())) await setTimeout((due - Number(now())) / 1e6);
      else if (i % BREATH === 0) await setImmediate();
      await relay.send(encoder, { payload: message(first + i, size) }).catch(() => {}); // lost, as the far end will tell
    }
    return { began: Number(began), ended: Number(now()) };
  },
  async arrived() {
    return arrivals.length;
  },
  async take() {
    return arrivals.splice(0);
  },
  async cpu() {
    const { user, system } = process.cpuUsage();
    return (user + system) / 1e6;
  },
};

function message(number, size) {
  const payload = crypto.getRandomValues(new Uint8Array(size));
  const view = new DataView(payload.buffer);
  view.setBigUint64(0, BigInt(number));
  view.setBigInt64(8, now());
  return payload;
}

for await (const line of createInterface({ input: process.stdin })) {
  const request = JSON.parse(line);
  const answer = (await reactions[request.do](request)) ?? null;
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
process.exit(0);
