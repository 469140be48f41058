// A gRPC client as Node.js programs have it (@grpc/grpc-js): every kind of call to test.Echo, and what came of
// it, in the same lines as grpc_client.py prints.
//
//     node grpc_client.mjs TARGET          one line for each call
//     node grpc_client.mjs TARGET load N   N calls, eight at a time, and how many ended with which status

import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { setTimeout as pause } from 'node:timers/promises';
import grpc from '@grpc/grpc-js';

const LARGE = Buffer.alloc(256 * 80_000, Buffer.from(Array.from({ length: 256 }, (_, n) => n)));

const [target, mode, count] = process.argv.slice(2);
const same = (bytes) => bytes;
const client = new grpc.Client(target, grpc.credentials.createInsecure(), {
  'grpc.max_receive_message_length': -1,
  'grpc.max_send_message_length': -1,
  'grpc.keepalive_time_ms': 100,
  'grpc.keepalive_timeout_ms': 30000,
});

function metadata(pairs = {}, echo = false) {
  const all = new grpc.Metadata();
  for (const [key, value] of Object.entries(pairs)) all.add(key, value);
  if (echo) {
    all.add('x-echo-ascii', 'a b, c');
    all.add('x-echo-twice', '1');
    all.add('x-echo-twice', '2');
    all.add('x-echo-bin', Buffer.from([0, 255, 10]));
  }
  return all;
}

function shown(all) {
  const keys = Object.keys(all.getMap()).filter((key) => key.startsWith('x-'));
  const pairs = keys.flatMap((key) => all.get(key).map((value) => [key, value]));
  return pairs.map(([key, value]) => `${key}=${Buffer.isBuffer(value) ? value.toString('hex') : value}`).sort().join(', ');
}

// How a call ended. Its errors say the same, and events.once would throw them.
const statusOf = (call) => new Promise((resolve) => {
  call.on('error', () => {});
  call.on('status', resolve);
});
const ended = (name, status) => {
  // What libraries say about a call that went well is their own.
  const said = status.code ? JSON.stringify(status.details) : '-';
  console.log(`${name}: ${status.code} ${said} [${shown(status.metadata)}]`);
};
const digest = (bytes) => `${bytes.length} bytes, ${createHash('sha256').update(bytes).digest('hex').slice(0, 12)}`;
const within = (seconds) => ({ deadline: Date.now() + seconds * 1000 });

// A call with one answer: what it answered, what came before that, and how it ended.
async function one(name, message, all = metadata(), options = within(60)) {
  let answer;
  const call = client.makeUnaryRequest(`/test.Echo/${name}`, same, same, message, all, options, (_, bytes) => {
    answer = bytes;
  });
  let initial = new grpc.Metadata();
  call.on('metadata', (fields) => { initial = fields; });
  const status = await statusOf(call);
  return { answer, initial, status };
}

async function unary() {
  const { answer, initial, status } = await one('Unary', Buffer.from('hello'), metadata({}, true));
  console.log(`unary: ${answer}`);
  console.log(`initial: [${shown(initial)}]`);
  ended('trailing', status);
  console.log(`empty: ${(await one('Unary', Buffer.alloc(0))).answer.length}`);
  console.log(`large: ${digest((await one('Unary', LARGE)).answer)}`);
  const together = Array.from({ length: 100 }, (_, n) => one('Unary', Buffer.from(String(n))));
  const answers = await Promise.all(together);
  console.log(`together: ${answers.filter((call, n) => String(call.answer) === String(n)).length}`);
}

const stream = (name, all, options = within(60)) =>
  client.makeServerStreamRequest(`/test.Echo/${name}`, same, same, Buffer.alloc(0), all, options);

// All messages of a stream, and how it ended.
async function read(call) {
  const messages = [];
  call.on('data', (message) => messages.push(message));
  const status = await statusOf(call);
  return { messages, status };
}

async function streams() {
  const { messages, status } = await read(stream('ServerStream', metadata({ 'x-count': '200' }, true)));
  console.log(`server stream: ${digest(Buffer.concat(messages))}`);
  ended('server stream', status);

  const answer = await new Promise((resolve, reject) => {
    const call = client.makeClientStreamRequest('/test.Echo/ClientStream', same, same, metadata(), within(60),
      (error, bytes) => (error ? reject(error) : resolve(bytes)));
    for (let n = 0; n < 200; n += 1) call.write(Buffer.alloc(10_000));
    call.end();
  });
  console.log(`client stream: ${answer}`);

  // Each message is sent once the one before it has come back.
  const chat = client.makeBidiStreamRequest('/test.Echo/Chat', same, same, metadata(), within(60));
  let turns = 0;
  chat.write(Buffer.from('0'));
  for await (const message of chat) {
    if (String(message) !== String(turns)) throw new Error(`turn ${turns}: ${message}`);
    turns += 1;
    if (turns < 50) chat.write(Buffer.from(String(turns))); else chat.end();
  }
  console.log(`chat: ${turns}`);
}

async function statuses() {
  for (let code = 1; code <= 16; code += 1) {
    const { status } = await one('Unary', Buffer.from('x'), metadata({ 'x-status': String(code) }, true));
    ended(`status ${code}`, status);
  }
  const { messages, status } = await read(stream('ServerStream', metadata({ 'x-count': '3', 'x-status': '14' })));
  ended(`after ${messages.length} messages`, status);
  console.log(`missing: ${(await one('Missing', Buffer.from('x'))).status.code}`);
}

async function deadlines() {
  const left = Number((await one('Deadline', Buffer.alloc(0), metadata(), within(30))).answer);
  // The wire's units are coarse, and libraries round up.
  console.log(`deadline: ${left > 0 && left <= 31_000 ? 'True' : left}`);
  console.log(`no deadline: ${(await one('Deadline', Buffer.alloc(0), metadata(), {})).answer}`);
  console.log(`slow: ${(await read(stream('Slow', metadata(), within(1)))).status.code}`);
  const call = stream('Slow', metadata(), {});
  const end = statusOf(call);
  const [message] = await once(call, 'data');
  console.log(`cancel: ${message}`);
  call.cancel();
  console.log(`cancel: ${(await end).code}`);
  // The server learns of both; this waits for nothing else.
  const givenUp = async () => String((await one('GivenUp', Buffer.alloc(0))).answer);
  for (let n = 0; n < 3000 && (await givenUp()) !== '2'; n += 1) await pause(10);
  console.log(`given up: ${await givenUp()}`);
}

async function load(calls) {
  const counts = {};
  let next = 0;
  const worker = async () => {
    while (next < calls) {
      next += 1;
      const { status } = await one('Unary', Buffer.from(String(next)));
      counts[status.code] = (counts[status.code] ?? 0) + 1;
    }
  };
  await Promise.all(Array.from({ length: 8 }, worker));
  console.log(JSON.stringify(counts).replaceAll('"', '').replaceAll(':', ': '));
}

if (mode === 'load') await load(Number(count));
else for (const part of [unary, streams, statuses, deadlines]) await part();
client.close();
