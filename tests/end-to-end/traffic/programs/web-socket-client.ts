/** A WebSocket client: bun -e THIS URL. Sends texts and a large binary message, prints as JSON what came back, and closes with 4001. */

const MESSAGES = 200;
const LARGE = crypto.getRandomValues(new Uint8Array(65_536));
const binary = Buffer.concat(Array<Uint8Array>(64).fill(LARGE));
const received: string[] = [];
let echoed = false;

const socket = new WebSocket(process.argv.at(-1) ?? '');
socket.binaryType = 'arraybuffer';
socket.addEventListener('open', () => {
  for (let i = 0; i < MESSAGES; i++) socket.send(`message ${i}`);
  socket.send(binary);
});
socket.addEventListener('message', ({ data }: MessageEvent<string | ArrayBuffer>) => {
  if (typeof data === 'string') received.push(data);
  else {
    echoed = binary.equals(Buffer.from(data));
    socket.close(4001, 'enough');
  }
});
socket.addEventListener('close', ({ code, reason }) => {
  const [first] = received;
  const inOrder = received.slice(1).every((text, i) => text === `message ${i}`);
  console.log(JSON.stringify({ first, texts: received.length - 1, inOrder, echoed, code, reason }));
  process.exit(0);
});
