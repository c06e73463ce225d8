/**
 * A relay in front of PostgreSQL that kills its client at a chosen moment. Usage: bun database-gate.ts LISTEN_PORT DATABASE_PORT
 *
 * On standard input come lines of JSON: `{"pid": N, "moment": MOMENT}` arms it, `{}` disarms it; it prints `armed` or `disarmed`. At the moment the statement
 * goes to the database, its answer does not come back, and the process is killed: what the database did is done, and the client never knew. Prints `killed`.
 */
import net from 'node:net';
import process from 'node:process';
import { ClientStatements, type ClientStatement } from './client-statements.ts';

/** When to kill. */
export type Moment =
  /** The Nth beginning or end of a transaction from now on: between those nothing that lasts changes. */
  | { readonly boundary: number }
  | {
      /** Part of the statement. */
      readonly sql: string;
      /** What its parameters contain as well. */
      readonly parameter?: string;
      /** Not at the statement itself, but when what it is part of is committed. */
      readonly atCommit?: boolean;
      /** The how manieth such statement; the first one if absent. */
      readonly occurrence?: number;
    };

/** What a gate is told. */
export interface Order {
  readonly pid?: number;
  readonly moment?: Moment;
}

const [listenPort = 0, databasePort = 0] = process.argv.slice(2).map(Number);
let order: Order = {};
let counted = 0;

/** One connection of the client. */
class Relay {
  readonly #statements = new ClientStatements();
  /** The order whose statement came here, and is not committed yet. */
  #begun: Order | undefined;
  #isDeadly = false;

  constructor(client: net.Socket) {
    const database = net.connect(databasePort, '127.0.0.1');
    client.on('data', (bytes: Buffer) => {
      for (const statement of this.#statements.take(bytes)) this.#isDeadly ||= this.#isAwaited(statement);
      database.write(bytes);
    });
    database.on('data', (bytes) => {
      if (this.#isDeadly) kill();
      else client.write(bytes);
    });
    for (const [one, other] of [
      [client, database],
      [database, client],
    ] as const) {
      one.on('error', () => undefined);
      one.on('close', () => other.end());
    }
  }

  #isAwaited({ sql, message }: ClientStatement): boolean {
    const { moment } = order;
    if (moment === undefined) return false;
    if ('boundary' in moment) return /^(?:begin|commit|rollback)/.test(sql) && ++counted === moment.boundary;
    if (this.#begun === order && sql.startsWith('commit')) return true;
    if (!sql.includes(moment.sql) || !message.includes(moment.parameter ?? '')) return false;
    if (++counted !== (moment.occurrence ?? 1)) return false;
    this.#begun = order;
    return moment.atCommit !== true;
  }
}

function kill(): void {
  if (order.pid === undefined) return;
  process.kill(order.pid, 'SIGKILL');
  order = {};
  console.log('killed');
}

net
  .createServer((client) => void new Relay(client))
  .listen(listenPort, '127.0.0.1', () => {
    console.log('listening');
  });

for await (const line of console) {
  order = JSON.parse(line) as Order;
  counted = 0;
  console.log(order.moment === undefined ? 'disarmed' : 'armed');
}
process.exit();
