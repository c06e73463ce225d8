import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { decisionsBelow, listRecords } from '../kit/access-records.ts';
import { Child } from '../kit/child.ts';
import { asUser } from '../kit/programs.ts';
import { waitUntil } from '../kit/wait.ts';
import { CALLER_USER, pythonService, TrafficMesh } from '../end-to-end/traffic/traffic-mesh.ts';
import { SeededRandom } from '../fuzz/random.ts';
import type { Disturbance } from './disturbances.ts';
import { explainLosses, type Happening, type Loss } from './losses.ts';
import { MemoryRecord } from './memory.ts';
import { findLost, readRequests, type Excused, type SeenRequest } from './requests.ts';

const PORT = 8099;
const USER = 7371;
const TARGET = 'spiffe://example.org/web';
const LOAD = readFileSync(join(import.meta.dirname, 'programs/endless-load.py'), 'utf8');
const POLICY = readFileSync(join(import.meta.dirname, '../kit/policies/traffic/policy.rego'), 'utf8');
/** What was recorded at the end must have come to the server by then. */
const SETTLE_MS = 120_000;
/** Of an agent that another process takes over from: shorter than the time in peace between two disturbances, and longer than a request takes on a busy machine, which is cut behind it. */
const DRAIN_SECONDS = 8;
/** Before a disturbance begins, what is asked may already meet it. */
const BEFORE_MS = 200;

export interface OrdealOptions {
  readonly seconds: number;
  /** What goes wrong, in an order that the seed decides. */
  readonly disturbances: (traffic: TrafficMesh) => readonly Disturbance[];
  readonly seed: number;
  /** How long the network is left in peace between two of them, and how long each lasts: at least, and up to twice as long. Milliseconds. */
  readonly peaceMs: number;
  readonly lastsMs: number;
  /** At the end nothing goes wrong for so long, milliseconds: what is to be said of memory is said of that time. */
  readonly calmMs: number;
  /** Certificates of caller and service live so long; they are renewed at half of it. */
  readonly ttl: string;
  /** Milliseconds from one publication of a policy to the next, if the machine keeps up. */
  readonly policyMs: number;
  readonly progress?: (text: string) => void;
}

/** What there is to say in the end. */
export interface OrdealReport {
  readonly requests: number;
  readonly policies: number;
  readonly disturbances: number;
  /** Failed although nothing was in the way. */
  readonly lost: readonly Loss[];
  /** Failed while something was. */
  readonly failed: number;
  /** Seen by the application and not recorded as allowed, or not once. */
  readonly unrecorded: readonly string[];
  /** Answered with 200 and not seen by the application, or with 403 and seen. */
  readonly untrue: readonly string[];
  readonly memory: MemoryRecord['growth'];
}

/** A mesh under constant load while certificates rotate, policies change, and things go wrong. */
export async function undergo(options: OrdealOptions): Promise<OrdealReport> {
  const web = pythonService({
    path: '/web',
    uid: USER,
    listen: [String(PORT)],
    program: '../../bad-days/programs/held-application.py',
    args: [String(PORT)],
  });
  const traffic = await TrafficMesh.open({
    services: [web],
    ttl: options.ttl,
    // What is said at level debug fills disks.
    settings: { log_level: 'info', upgrade: { drain_seconds: DRAIN_SECONDS } },
    isOpen: async (open) => (await open.asCaller(['curl', '-sf', '-m', '5', urlOf(open)])).exitCode === 0,
  });
  try {
    return await new Ordeal(traffic, options).run();
  } finally {
    await traffic.close();
  }
}

function urlOf({ store }: TrafficMesh): string {
  return `http://${store.host.ipv4}:${PORT}/open`;
}

class Ordeal {
  readonly #traffic: TrafficMesh;
  readonly #options: OrdealOptions;
  readonly #random: SeededRandom;
  readonly #memory = new MemoryRecord();
  readonly #excused: Excused[] = [];
  readonly #happenings: Happening[] = [];
  readonly #endsMs: number;
  #disturbances = 0;
  #policies = 0;

  constructor(traffic: TrafficMesh, options: OrdealOptions) {
    this.#traffic = traffic;
    this.#options = options;
    this.#random = new SeededRandom(options.seed);
    this.#endsMs = Date.now() + options.seconds * 1000;
  }

  async run(): Promise<OrdealReport> {
    const load = this.#startLoad();
    await waitUntil('the load goes', () => readRequests(load.log()).length > 20);
    await Promise.all([this.#changePolicies(), this.#disturb(), this.#watchMemory()]);
    const requests = await this.#endLoad(load);
    return { ...(await this.#compare(requests)), policies: this.#policies, memory: this.#memory.growth };
  }

  get #isOver(): boolean {
    return Date.now() >= this.#endsMs;
  }

  #startLoad(): Child {
    const { store, desk, folder } = this.#traffic;
    const command = ['/usr/bin/python3', '-c', LOAD, store.host.ipv4, String(PORT), 'ordeal'];
    return new Child({
      command: desk.host.in(...asUser(CALLER_USER, ...command)),
      logFile: join(folder, 'load.log'),
      cwd: '/',
      isTypedTo: true,
    });
  }

  async #endLoad(load: Child): Promise<readonly SeenRequest[]> {
    load.endTyping();
    await waitUntil('the load has ended', () => !load.isRunning);
    return readRequests(load.log());
  }

  /** One policy allows what is below /flip, the next one does not. */
  async #changePolicies(): Promise<void> {
    const { mesh, folder } = this.#traffic;
    for (let turn = 0; !this.#isOver; turn++) {
      const place = join(folder, 'policies', turn % 2 === 0 ? 'closed' : 'open');
      mkdirSync(place, { recursive: true });
      const text = turn % 2 === 0 ? POLICY.replace('"refused"', '"flip"') : POLICY;
      writeFileSync(join(place, 'policy.rego'), text);
      const fromMs = Date.now();
      const { exitCode } = await mesh.control.picket('policy', 'publish', place, '-m', `turn ${turn}`);
      if (exitCode === 0) this.#policies += 1;
      const untilMs = Date.now();
      this.#happenings.push({ name: `publication of policy ${turn}`, fromMs, untilMs });
      await Bun.sleep(Math.max(0, this.#options.policyMs - (untilMs - fromMs)));
    }
  }

  async #disturb(): Promise<void> {
    const { peaceMs, lastsMs, calmMs, progress } = this.#options;
    const all = this.#options.disturbances(this.#traffic);
    for (;;) {
      await Bun.sleep(this.#between(peaceMs));
      if (Date.now() > this.#endsMs - calmMs) return;
      const disturbance = this.#random.pick(all);
      const { name, afterMs } = disturbance;
      progress?.(name);
      this.#disturbances += 1;
      const fromMs = Date.now();
      await disturbance.begin();
      await Bun.sleep(this.#between(lastsMs));
      await disturbance.end();
      const untilMs = Date.now();
      this.#happenings.push({ name, fromMs, untilMs });
      if (afterMs !== undefined)
        this.#excused.push({ fromMs: fromMs - BEFORE_MS, untilMs: untilMs + afterMs });
    }
  }

  #between(ms: number): number {
    return ms + this.#random.below(ms);
  }

  async #watchMemory(): Promise<void> {
    const { mesh, store, desk } = this.#traffic;
    while (!this.#isOver) {
      for (const [name, part] of Object.entries({ server: mesh.control, store, desk })) {
        const pid = pidOf(part);
        if (pid !== undefined) this.#memory.note(name, pid);
      }
      await Bun.sleep(Math.min(5000, this.#options.seconds * 10));
    }
  }

  async #compare(requests: readonly SeenRequest[]): Promise<Omit<OrdealReport, 'policies' | 'memory'>> {
    const seen = this.#seenPaths();
    const recorded = await this.#recordedPaths(seen);
    const times = Map.groupBy(recorded, (path) => path);
    const known = new Set(seen);
    const lost = await this.#explain(findLost(requests, this.#excused));
    const answered = (status: string): readonly string[] =>
      requests.filter(({ answer }) => answer === status).map(({ path }) => path);
    return {
      requests: requests.length,
      disturbances: this.#disturbances,
      lost,
      failed: requests.filter(({ answer }) => answer !== '200' && answer !== '403').length - lost.length,
      unrecorded: seen.filter((path) => times.get(path)?.length !== 1),
      untrue: [
        ...answered('200').filter((path) => !known.has(path)),
        ...answered('403').filter((path) => known.has(path)),
      ],
    };
  }

  async #explain(lost: readonly SeenRequest[]): Promise<readonly Loss[]> {
    const { mesh, store, desk } = this.#traffic;
    if (lost.length === 0) return [];
    return explainLosses(lost, {
      happenings: this.#happenings.toSorted((a, b) => a.fromMs - b.fromMs),
      denials: await listRecords(mesh.control, '--decision', 'deny'),
      logs: { server: readFileSync(mesh.control.logFile, 'utf8'), store: store.log(), desk: desk.log() },
    });
  }

  /** What the application has seen of the load. */
  #seenPaths(): readonly string[] {
    return this.#traffic
      .service('/web')
      .log()
      .split('\n')
      .filter((line) => line.startsWith('seen ') && line.includes('/ordeal-'))
      .map((line) => line.slice('seen '.length));
  }

  /** What the server has recorded as allowed, as soon as it has all of `seen`: how many it has says nothing, for of some the agent was killed before the application saw them. */
  async #recordedPaths(seen: readonly string[]): Promise<readonly string[]> {
    const read = async (): Promise<readonly string[]> => {
      const decisions = await decisionsBelow(this.#traffic.mesh.control, TARGET, '/');
      return decisions
        .filter(({ decision, path }) => decision === 'allow' && path?.includes('/ordeal-') === true)
        .map(({ path }) => path ?? '');
    };
    // What has not come by then is named by the comparison.
    let last: readonly string[] = [];
    await waitUntil(
      'the records have come',
      async () => {
        last = await read();
        return new Set(last).isSupersetOf(new Set(seen));
      },
      SETTLE_MS,
    ).catch(() => undefined);
    return last;
  }
}

/** Undefined while it does not run. */
function pidOf(part: { readonly pid: number }): number | undefined {
  try {
    return part.pid;
  } catch {
    return undefined;
  }
}
