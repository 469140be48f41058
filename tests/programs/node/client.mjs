// Makes the exchanges of a plan with one of node's HTTP clients and prints what it got.
//
//     client.mjs http|fetch|undici URL PLAN
//
// A plan has one exchange a line: method, target, body ("-", "length" or "chunked") and header fields, with tabs
// between.

import { readFileSync } from "node:fs";
import http from "node:http";
import { Readable } from "node:stream";

const PIECES = ["hello, ", "\0 and ", "goodbye\r\n"];

const [client, base, plan] = process.argv.slice(2);

const bodies = {
  "-": () => undefined,
  length: () => PIECES.join(""),
  chunked: () => Readable.from(PIECES.map((piece) => Buffer.from(piece)), { objectMode: false }),
};

const clients = {
  async http() {
    const { hostname } = new URL(base);
    const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
    const one = (method, path, kind, fields) =>
      new Promise((resolve, reject) => {
        const headers = Object.fromEntries(fields.map(([name]) => [name, []]));
        fields.forEach(([name, value]) => headers[name].push(value));
        const request = http.request({ agent, hostname, method, path, headers }, async (response) => {
          resolve([response.statusCode, Buffer.concat(await response.toArray())]);
        });
        request.on("error", reject);
        if (kind === "length") request.end(PIECES.join(""));
        else if (kind === "chunked") bodies.chunked().pipe(request);
        else request.end();
      });
    await each(one);
    agent.destroy();
  },
  async fetch() {
    await each(async (method, target, kind, fields) => {
      const init = { method, headers: fields, body: bodies[kind](), duplex: "half", redirect: "manual" };
      const response = await fetch(base + target, init);
      return [response.status, Buffer.from(await response.arrayBuffer())];
    });
  },
  async undici() {
    const { Client } = await import("undici");
    const client = new Client(base);
    await each(async (method, path, kind, fields) => {
      const response = await client.request({ method, path, headers: fields.flat(), body: bodies[kind]() });
      return [response.statusCode, Buffer.from(await response.body.arrayBuffer())];
    });
    await client.close();
  },
};

async function each(exchange) {
  for (const line of readFileSync(plan, "utf8").split("\n").filter(Boolean)) {
    const [method, target, kind, ...fields] = line.split("\t");
    const pairs = fields.map((field) => field.split(/: (.*)/s).slice(0, 2));
    const [status, body] = await exchange(method, target, kind, pairs);
    console.log(method, target, status, JSON.stringify(body.toString("latin1")));
  }
}

await clients[client]();
