/**
 * A relay in front of PostgreSQL that kills its client at a chosen moment. Usage: bun database-gate.ts LISTEN_PORT DATABASE_PORT
 *
 * `arm N PID` on standard input: from then on the beginnings and the ends of transactions are counted, for between those nothing that lasts changes. The Nth goes
 * to the database, its answer does not come back, and the process PID is killed: what the database did is done, and the client never knew. Prints `armed`, and
 * `killed` when it is done. `disarm`: prints `disarmed`.
 */
import process from 'node:process';

interface Pair {
  readonly other: Bun.Socket<Pair>;
  readonly isClient: boolean;
  /** Under which name the client has prepared `commit`. */
  commitName: string | undefined;
  /** Whether the answer to come is the one that kills. */
  isDeadly: boolean;
}

const [listenPort = 0, databasePort = 0] = process.argv.slice(2).map(Number);
let remaining = 0;
let victim = 0;

const handlers: Bun.SocketHandler<Pair> = {
  data(from, bytes) {
    const { other, isClient, isDeadly } = from.data;
    if (isClient && isBoundary(from.data, bytes) && remaining > 0 && --remaining === 0)
      other.data.isDeadly = true;
    if (!isClient && isDeadly) return kill();
    other.write(bytes);
  },
  close: (from) => void from.data.other.end(),
  error: () => undefined,
};

/** Whether the client begins or ends a transaction: by a simple query, or by a statement that it prepared before or now. */
function isBoundary(pair: Pair, bytes: Buffer): boolean {
  const text = bytes.toString('latin1');
  if (text.startsWith('Q')) return text.includes('begin');
  // P, its length, a name, the statement.
  pair.commitName ??= /^P[^]{4}(\w+)\0(?:commit|rollback)/.exec(text)?.[1];
  return pair.commitName !== undefined && text.includes(`\0${pair.commitName}\0`) && text.includes('B');
}

function kill(): void {
  if (victim === 0) return;
  process.kill(victim, 'SIGKILL');
  victim = 0;
  console.log('killed');
}

Bun.listen<Pair>({
  hostname: '127.0.0.1',
  port: listenPort,
  socket: {
    ...handlers,
    async open(client) {
      client.pause();
      const common = { commitName: undefined, isDeadly: false };
      const database = await Bun.connect<Pair>({
        hostname: '127.0.0.1',
        port: databasePort,
        socket: handlers,
        data: { ...common, other: client, isClient: false },
      });
      client.data = { ...common, other: database, isClient: true };
      client.resume();
    },
  },
});
console.log('listening');

for await (const line of console) {
  const [word, count, pid] = line.split(' ');
  [remaining, victim] = word === 'arm' ? [Number(count), Number(pid)] : [0, 0];
  console.log(word === 'arm' ? 'armed' : 'disarmed');
}
