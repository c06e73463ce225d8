import { join } from 'node:path';
import { nodePage, policyPublished } from '../../../shared/protocol/operator.ts';
import type { MeshHost } from '../../kit/mesh-host.ts';
import { HeldStreams, startStreamService } from '../../kit/streams/streams.ts';
import { waitUntil } from '../../kit/wait.ts';
import type { Benchmark, BenchRun } from '../bench-run.ts';
import { verdictOf } from '../compare.ts';
import type { Lab } from '../lab.ts';
import { quantile, type Row, type Table } from '../measure.ts';
import { askServer } from '../server-request.ts';

const name = 'cut';
const title = 'From a change at the server to the end of 1,000 open connections';
const STREAMS = 1000;
const INTERVAL_MS = 200;
const USERS = { service: 7301, caller: 7302 };
const PORTS = { tcp: 9101, http: 9102 };
const CALLER = 'spiffe://bench.test/streams/caller';
/** The aim, of the p99. */
const BOUND_MS = 250;
const CUT_WITHIN_MS = 30_000;
const KINDS = ['tcp', 'http'] as const;
type Kind = (typeof KINDS)[number];

/** A thousand streams between two hosts that lose their permit at once: how long each goes on. */
export const cut: Benchmark = { name, title, isQuick: false, measure };

/** A change that takes the permit away, and how to give it back. */
interface Change {
  readonly what: string;
  take(): Promise<void>;
  giveBack(): Promise<void>;
}

async function measure(bench: BenchRun): Promise<Table> {
  const { lab, rounds, progress } = bench;
  await lab.measureServer();
  const stage = await Stage.open(lab);
  const rows: Row[] = [];
  try {
    for (const change of await stage.changes())
      for (const kind of KINDS) {
        const tookMs: number[] = [];
        for (let round = 0; round <= rounds; round++) {
          progress(`${name}: ${change.what}, ${kind}, round ${round}`);
          const took = await stage.cutOnce(change, kind);
          // The first one warms up.
          if (round > 0) tookMs.push(...took);
        }
        rows.push(rowOf(`${change.what}, ${kind === 'tcp' ? 'TCP' : 'HTTP/1.1'}`, tookMs));
      }
  } finally {
    await stage.close();
  }
  const notes = [
    `each connection says a line every ${INTERVAL_MS} ms; counted is its end at the client, behind its last byte, from the sending of the request to the server`,
    'a policy is one that was published before, so that no compilation is in it',
  ];
  return { name, title, rows, notes };
}

function rowOf(what: string, tookMs: readonly number[]): Row {
  const measured = { name: what, unit: 'ms', better: 'less', bound: BOUND_MS } as const;
  const p99 = quantile(tookMs, 0.99);
  const results = [
    { contender: 'p50', median: quantile(tookMs, 0.5) },
    { contender: 'p99', median: p99 },
    { contender: 'longest', median: quantile(tookMs, 1) },
  ];
  return { measure: measured, results, ...verdictOf(measured, { median: p99 }) };
}

/** Two hosts of their own, with a service that never stops talking. */
class Stage {
  readonly #lab: Lab;
  readonly #called: MeshHost;
  readonly #calling: MeshHost;
  readonly #stack: AsyncDisposableStack;
  #entryId = '';
  #held = 0;

  private constructor(
    parts: { readonly lab: Lab; readonly called: MeshHost; readonly calling: MeshHost },
    stack: AsyncDisposableStack,
  ) {
    this.#lab = parts.lab;
    this.#called = parts.called;
    this.#calling = parts.calling;
    this.#stack = stack;
  }

  static async open(lab: Lab): Promise<Stage> {
    await using stack = new AsyncDisposableStack();
    const [calledHost, callingHost] = [lab.takeHost(), lab.takeHost()];
    const service = await startStreamService(calledHost, {
      uid: USERS.service,
      ports: PORTS,
      intervalMs: INTERVAL_MS,
      logFile: join(lab.folder, 'streams.log'),
    });
    stack.defer(async () => void (await service.stop('SIGKILL')));
    const called = await lab.joinHost(calledHost, 'streams-called');
    const calling = await lab.joinHost(callingHost, 'streams-calling');
    const listen = [`${PORTS.tcp}/tcp`, `${PORTS.http}/http`];
    const selectors = [`unix:uid:${USERS.service}`];
    await lab.mesh.register({ path: '/streams/service', on: called, selectors, listen });
    stack.defer(async () => await lab.publish());
    const stage = new Stage({ lab, called, calling }, stack.move());
    await stage.#register();
    return stage;
  }

  async changes(): Promise<readonly Change[]> {
    const ask = async (method: string, path: string, body?: unknown): Promise<unknown> =>
      await askServer(this.#lab.mesh.control.socket, { method, path, body });
    const quarantine = (what: string, kind: string, subject: string): Change => {
      const path = `/quarantines/${kind}/${encodeURIComponent(subject)}`;
      return {
        what,
        take: async () => void (await ask('PUT', path, { reason: 'bench' })),
        giveBack: async () => void (await ask('DELETE', path)),
      };
    };
    const allowing = await this.#publish('default allow := true');
    const denying = await this.#publish('default allow := false');
    const rollback = async (version: number): Promise<void> =>
      void (await ask('POST', '/policies/rollback', { version }));
    await rollback(allowing);
    const { items } = nodePage.parse(await ask('GET', '/nodes'));
    const node = items.find(({ nodeId }) => nodeId.endsWith(`/${this.#calling.name}`))?.nodeId ?? '';
    return [
      quarantine('workload quarantined', 'workload', CALLER),
      quarantine('node quarantined', 'node', node),
      {
        what: 'policy replaced',
        take: async () => await rollback(denying),
        giveBack: async () => await rollback(allowing),
      },
      {
        what: 'entry deleted',
        take: async () => void (await ask('DELETE', `/entries/${this.#entryId}`)),
        giveBack: async () => await this.#register(),
      },
    ];
  }

  /** How long each stream took to end, in milliseconds. */
  async cutOnce(change: Change, kind: Kind): Promise<readonly number[]> {
    await waitUntil('a stream passes', async () => {
      const one = await this.#hold(kind, 1);
      const { alive } = await one.report();
      await one.stop();
      return alive === 1;
    });
    const streams = await this.#hold(kind, STREAMS);
    try {
      const { ended: lost } = await streams.report();
      if (lost.length > 0) throw new Error(`${lost.length} streams ended before the change: ${lost[0]?.how}`);
      const sentMs = Date.now();
      await change.take();
      const { ended } = await streams.until(0, CUT_WITHIN_MS);
      await change.giveBack();
      return ended.map((stream) => stream.ended - sentMs);
    } finally {
      await streams.stop();
    }
  }

  async close(): Promise<void> {
    await this.#stack.disposeAsync();
  }

  async #hold(kind: Kind, count: number): Promise<HeldStreams> {
    return await HeldStreams.open(this.#calling.host, {
      uid: USERS.caller,
      to: this.#called.host.ipv4,
      ports: { tcp: kind === 'tcp' ? PORTS.tcp : 0, http: kind === 'http' ? PORTS.http : 0 },
      count,
      logFile: join(this.#lab.folder, `streams-${++this.#held}.log`),
    });
  }

  async #publish(rule: string): Promise<number> {
    const files = { 'streams.rego': `package picket.authz\n\n${rule}\n` };
    const { socket } = this.#lab.mesh.control;
    const path = '/policies';
    return policyPublished.parse(
      await askServer(socket, { method: 'POST', path, body: { files, message: rule } }),
    ).version;
  }

  async #register(): Promise<void> {
    const selectors = [`unix:uid:${USERS.caller}`];
    this.#entryId = await this.#lab.mesh.register({ path: '/streams/caller', on: this.#calling, selectors });
  }
}
