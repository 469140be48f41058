// An HTTP/2 client as Node.js programs have it: 42 requests, and what came back, one line each.
//
//     node http2_client.mjs http://server

import { createHash } from 'node:crypto';
import { once } from 'node:events';
import http2 from 'node:http2';

const LARGE = Buffer.alloc(2_048_000, 'node');

const session = http2.connect(process.argv[2]);
session.on('error', (error) => { throw error; });
await once(session, 'connect');

async function exchange(name, headers, body) {
  const stream = session.request({ ':method': 'POST', ':path': `/${name}`, ...headers });
  let head;
  let trailers;
  stream.on('response', (fields) => { head = fields; });
  stream.on('trailers', (fields) => { trailers = fields; });
  stream.end(body);
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  const content = Buffer.concat(chunks);
  if (!content.equals(body)) throw new Error(`${name}: another body came back`);
  const digest = createHash('sha256').update(content).digest('hex').slice(0, 12);
  const told = [head['x-length'], head['x-kind'], trailers['x-checksum']];
  return `${name} ${head[':status']} ${head['set-cookie']} ${told} ${content.length} ${digest}`;
}

const small = Array.from({ length: 40 }, (_, n) => exchange(`small-${n}`, {}, Buffer.alloc(n * 100, n)));
for (const line of await Promise.all(small)) console.log(line);
console.log(await exchange('large', { 'content-type': 'x/y' }, LARGE));

// Over a window that both ends have made wide.
session.settings({ initialWindowSize: 1 << 20 });
session.setLocalWindowSize(1 << 22);
await once(session, 'localSettings');
console.log(await exchange('wide', {}, LARGE));

const [milliseconds] = await new Promise((resolve, reject) => {
  session.ping(Buffer.from('12345678'), (error, duration, payload) => {
    error ? reject(error) : resolve([duration, payload]);
  });
});
if (!(milliseconds >= 0)) throw new Error('no answer to a ping');
session.close();
await once(session, 'close');
