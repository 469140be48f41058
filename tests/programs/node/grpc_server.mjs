// A gRPC server as Node.js programs have it (@grpc/grpc-js, on Node's HTTP/2). The service is that of
// grpc_server.py.
//
//     node grpc_server.mjs PORT [MAX_CONNECTION_AGE_MS]

import grpc from '@grpc/grpc-js';

let givenUp = 0;

function metadata(call) {
  const echo = new grpc.Metadata();
  for (const key of Object.keys(call.metadata.getMap()).filter((key) => key.startsWith('x-echo'))) {
    for (const value of call.metadata.get(key)) echo.add(key, value);
  }
  return echo;
}

// How a call ends that asks for a status; nothing for one that does not.
function asked(call, trailing) {
  const [code] = call.metadata.get('x-status');
  if (code === undefined) return null;
  trailing.add('x-detail-bin', Buffer.from([0, 255, 128]));
  return { code: Number(code), details: 'was asked for: 100 % é\n', metadata: trailing };
}

function unary(call, callback) {
  const trailing = metadata(call);
  const error = asked(call, trailing);
  if (error) return callback(error);
  call.sendMetadata(metadata(call));
  callback(null, call.request, trailing);
}

function deadline(call, callback) {
  const left = call.getDeadline() - Date.now();
  callback(null, Buffer.from(Number.isFinite(left) ? String(Math.floor(left)) : 'none'));
}

function serverStream(call) {
  const trailing = metadata(call);
  const error = asked(call, trailing);
  if (!error) call.sendMetadata(metadata(call));
  const count = Number(call.metadata.get('x-count')[0]);
  for (let n = 0; n < count; n += 1) call.write(Buffer.alloc(1000, n % 256));
  if (error) call.emit('error', error); else call.end(trailing);
}

function clientStream(call, callback) {
  let [messages, bytes] = [0, 0];
  call.on('data', (message) => { messages += 1; bytes += message.length; });
  call.on('end', () => callback(null, Buffer.from(`${messages} messages, ${bytes} bytes`)));
}

function chat(call) {
  call.on('data', (message) => call.write(message));
  call.on('end', () => call.end());
}

function slow(call) {
  call.on('cancelled', () => { givenUp += 1; });
  call.write(Buffer.from('begun'));
}

const same = (bytes) => bytes;
const method = (name, requestStream, responseStream) => ({
  path: `/test.Echo/${name}`,
  requestStream,
  responseStream,
  requestSerialize: same,
  requestDeserialize: same,
  responseSerialize: same,
  responseDeserialize: same,
});

const [port, age] = process.argv.slice(2);
const server = new grpc.Server({
  'grpc.max_receive_message_length': -1,
  'grpc.max_send_message_length': -1,
  ...(age && { 'grpc.max_connection_age_ms': Number(age), 'grpc.max_connection_age_grace_ms': 5000 }),
});
server.addService(
  {
    Unary: method('Unary', false, false),
    Deadline: method('Deadline', false, false),
    GivenUp: method('GivenUp', false, false),
    ServerStream: method('ServerStream', false, true),
    Slow: method('Slow', false, true),
    ClientStream: method('ClientStream', true, false),
    Chat: method('Chat', true, true),
  },
  {
    Unary: unary,
    Deadline: deadline,
    GivenUp: (_, callback) => callback(null, Buffer.from(String(givenUp))),
    ServerStream: serverStream,
    Slow: slow,
    ClientStream: clientStream,
    Chat: chat,
  },
);
server.bindAsync(`[::]:${port}`, grpc.ServerCredentials.createInsecure(), (error) => {
  if (error) throw error;
});
process.on('SIGTERM', () => server.forceShutdown());
