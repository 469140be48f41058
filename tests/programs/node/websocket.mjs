// A WebSocket client that sends ten thousand messages of mixed size to an echo and looks at what comes back.
//
//     websocket.mjs URL

import { WebSocket } from "undici";

const MESSAGES = 10_000;
// The sizes at which the framing changes, and a large one now and then.
const SIZES = [0, 1, 2, 5, 50, 125, 126, 127, 300, 1000];
const LARGE = 65_536;
const LARGE_EVERY = 250;

function message(n) {
  const size = n % LARGE_EVERY === 0 ? LARGE : SIZES[n % SIZES.length];
  return `${n} `.repeat(size / 2 + 1).slice(0, size);
}

const socket = new WebSocket(process.argv[2]);
socket.binaryType = "arraybuffer";
let received = 0;

socket.onopen = () => {
  for (let n = 0; n < MESSAGES; n += 1) socket.send(n % 2 ? message(n) : Buffer.from(message(n)));
};
socket.onmessage = ({ data }) => {
  const text = typeof data === "string" ? data : Buffer.from(data).toString();
  if (text !== message(received)) throw new Error(`message ${received} came back as another`);
  received += 1;
  if (received === MESSAGES) socket.close(1000, "enough");
};
socket.onerror = ({ error }) => {
  throw error;
};
socket.onclose = ({ code, reason, wasClean }) => console.log(received, "echoed, closed by", code, reason, wasClean);
